"""What is stored of money: accounts, prices, the ledger, invoices and payments."""

from billing.models.account import BillingAccount, BudgetNotice
from billing.models.audit import LedgerAudit
from billing.models.invoices import Invoice, InvoiceDocument, InvoiceLine, InvoiceSeries, Payment, Settlement
from billing.models.ledger import DailyCost, LedgerEntry
from billing.models.rates import Discount, Rate

__all__ = [
    "BillingAccount",
    "BudgetNotice",
    "DailyCost",
    "Discount",
    "Invoice",
    "InvoiceDocument",
    "InvoiceLine",
    "InvoiceSeries",
    "LedgerAudit",
    "LedgerEntry",
    "Payment",
    "Rate",
    "Settlement",
]
