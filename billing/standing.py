"""How an invoice stands: open, partly paid, overdue, paid, or a credit note. Pure."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from billing.models import Invoice
from billing.models.invoices import is_overdue
from billing.pricing import NOTHING

TONES = {"open": "blue", "partly paid": "amber", "overdue": "red", "paid": "green", "credit note": "grey"}


@dataclass(frozen=True, slots=True)
class Standing:
    """`open` is what is still to be paid; nothing of a credit note."""

    word: str
    open: Decimal
    settled: Decimal

    @property
    def tone(self) -> str:
        """A colour of the pages."""
        return TONES[self.word]


def standing(invoice: Invoice, today: date) -> Standing:
    """Of an invoice that with_open_amount() has fetched; `today` in the reader's zone."""
    left = max(invoice.total - invoice.settled, NOTHING)
    if invoice.total < 0:
        word = "credit note"
    elif not left:
        word = "paid"
    elif is_overdue(invoice.due_on, left, today):
        word = "overdue"
    else:
        word = "partly paid" if invoice.settled > 0 else "open"
    return Standing(word, left, invoice.settled)
