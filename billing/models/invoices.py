"""Invoices, which never change once they are issued, and what was paid for them."""

from datetime import date
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q, Sum, Value
from django.db.models.functions import Coalesce, Lower

from accounts.models import Workspace
from billing.models.account import money
from billing.models.ledger import LedgerEntry
from reservations.models import Reservation


class InvoiceSeries(models.Model):
    """The last number that was given out in a year. Its row is locked while one is issued: numbers have no gaps."""

    year = models.PositiveSmallIntegerField(primary_key=True)
    last_number = models.PositiveIntegerField(default=0)

    class Meta:
        verbose_name_plural = "invoice series"

    def __str__(self) -> str:
        return f"{self.year}: {self.last_number}"


class InvoiceQuerySet(models.QuerySet["Invoice"]):
    def visible_to(self, user: Any) -> "InvoiceQuerySet":
        """Those of the workspaces that `user` is a member of."""
        return self.filter(workspace__memberships__user=user)

    def with_open_amount(self) -> "InvoiceQuerySet":
        """Each with `settled`, what was paid of it or taken from credit."""
        settled = Settlement.objects.filter(invoice=models.OuterRef("pk")).order_by().values("invoice")
        total = models.Subquery(settled.annotate(total=Sum("amount")).values("total"))
        found = {"settled": Coalesce(total, Value(Decimal("0.00")), output_field=money())}
        return self.annotate(**found)  # by a dict: the model declares the name, so that mypy knows it everywhere

    def open(self) -> "InvoiceQuerySet":
        """Those of which something is still to be paid."""
        return self.with_open_amount().filter(total__gt=models.F("settled"))


class Invoice(models.Model):
    """What a workspace has to pay for a month, as it was sent. No column ever changes (a trigger).

    `total` is `subtotal` + `tax`. What is open of it is in its settlements. One with a negative total is a credit note:
    nothing is to be paid, and the amount is credit for the next ones.
    """

    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="invoices")
    number = models.CharField(max_length=40, unique=True)
    year = models.PositiveSmallIntegerField()
    position = models.PositiveIntegerField(help_text="in the series of its year, from 1 on without a gap")
    month = models.DateField(help_text="the first day of the month that it is for")
    zone = models.CharField(max_length=64, help_text="in which that month begins and ends")
    issued_at = models.DateTimeField()
    issued_on = models.DateField()
    due_on = models.DateField()
    currency = models.CharField(max_length=3)
    seller = models.TextField()
    recipient = models.TextField()
    recipient_tax_number = models.CharField(max_length=40, blank=True)
    tax_label = models.CharField(max_length=40, blank=True)
    tax_percent = models.DecimalField(max_digits=5, decimal_places=2, default=Decimal(0))
    note = models.TextField(blank=True, help_text="how to pay, and what else the installation prints")
    subtotal = money()
    tax = money()
    total = money()

    settled: Decimal  # where with_open_amount() has fetched it

    objects = InvoiceQuerySet.as_manager()

    class Meta:
        ordering = ["-year", "-position"]
        constraints = [
            models.UniqueConstraint(fields=["year", "position"], name="invoice_position_once"),
            models.UniqueConstraint(fields=["workspace", "month"], name="invoice_month_once"),
            models.CheckConstraint(
                condition=Q(total=models.F("subtotal") + models.F("tax")), name="invoice_total_is_the_sum"
            ),
        ]
        indexes = [models.Index(fields=["workspace", "-month"], name="invoice_of_workspace")]

    def __str__(self) -> str:
        return self.number


class InvoiceLine(models.Model):
    """A ledger entry on an invoice. No entry is on two."""

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="lines")
    entry = models.OneToOneField(LedgerEntry, on_delete=models.PROTECT, related_name="line")
    position = models.PositiveIntegerField()
    reservation = models.ForeignKey(Reservation, null=True, on_delete=models.PROTECT, related_name="+")
    text = models.CharField(max_length=300)
    served_from = models.DateTimeField(null=True)
    served_until = models.DateTimeField(null=True)
    quantity = models.CharField(max_length=120, blank=True, help_text="what was served, in words")
    amount = money()

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["invoice", "position"], name="invoice_line_once")]

    def __str__(self) -> str:
        return f"{self.text}: {self.amount}"


class InvoiceDocument(models.Model):
    """The PDF as it was made once, so that everybody gets the same bytes; and whether it was mailed."""

    invoice = models.OneToOneField(Invoice, on_delete=models.PROTECT, primary_key=True, related_name="document")
    pdf = models.BinaryField(null=True, editable=False)
    sha256 = models.CharField(max_length=64, blank=True, editable=False)
    mailed_to = models.CharField(max_length=400, blank=True)
    mailed_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    try_at = models.DateTimeField(
        null=True, blank=True, help_text="when it is mailed, or tried again. Empty: mailed, or given up"
    )
    problem = models.CharField(max_length=300, blank=True, help_text="why it could not be mailed")

    class Meta:
        indexes = [models.Index(fields=["try_at"], condition=Q(try_at__isnull=False), name="invoice_to_mail")]

    def __str__(self) -> str:
        return f"PDF of {self.invoice_id}"


class Payment(models.Model):
    """Money that came for one invoice. One with a reversal came back later."""

    class Method(models.TextChoices):
        BANK = "bank", "bank transfer"
        CARD = "card"
        CASH = "cash"
        OTHER = "other"
        STRIPE = "stripe", "Stripe"

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="payments")
    amount = money()
    method = models.CharField(max_length=10, choices=Method.choices)
    reference = models.CharField(max_length=120, help_text="the bank's, or the provider's; each comes once")
    received_on = models.DateField()
    recorded_at = models.DateTimeField()
    recorded_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    entry = models.OneToOneField(LedgerEntry, on_delete=models.PROTECT, related_name="payment")

    class Meta:
        ordering = ["-recorded_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                "method",
                Lower("reference"),
                name="payment_reference_once",
                violation_error_message="A payment with this reference was recorded already.",
            ),
            models.CheckConstraint(
                condition=Q(amount__gt=0),
                name="payment_is_something",
                violation_error_message="A payment must be more than zero.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount} by {self.method} {self.reference}"


class Settlement(models.Model):
    """A part of an invoice that is settled: by a payment, or out of the workspace's credit. Negative: taken back."""

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="settlements")
    payment = models.ForeignKey(Payment, null=True, on_delete=models.PROTECT, related_name="settlements")
    amount = money()
    at = models.DateTimeField()

    class Meta:
        ordering = ["at", "pk"]

    def __str__(self) -> str:
        return f"{self.amount} of {self.invoice_id}"


def is_overdue(due_on: date, open_amount: Decimal, today: date) -> bool:
    return open_amount > 0 and due_on < today
