"""The ledger: everything that changes what a workspace owes, once and for good."""

from datetime import date
from decimal import Decimal
from typing import Any

from django.db import models
from django.db.models import Q, Sum

from accounts.models import Workspace
from billing.models.account import money
from reservations.models import Reservation, Service, WorkspaceVolume


class LedgerEntryQuerySet(models.QuerySet["LedgerEntry"]):
    def visible_to(self, user: Any) -> "LedgerEntryQuerySet":
        """Those of the workspaces that `user` is a member of."""
        return self.filter(workspace__memberships__user=user)

    def usage(self) -> "LedgerEntryQuerySet":
        """What was served, with its corrections: what a month costs before tax."""
        return self.filter(kind__in=LedgerEntry.USAGE)

    def total(self) -> Decimal:
        """The sum of their amounts; positive is owed."""
        return self.aggregate(total=Sum("amount"))["total"] or Decimal("0.00")


class LedgerEntry(models.Model):
    """One change of what a workspace owes: positive is owed more, negative less.

    Rows are only ever added: a trigger of the database refuses the rest. `key` says what was entered, so that nothing
    is entered twice. A correction is an entry of its own that names the one it corrects.
    """

    class Kind(models.TextChoices):
        CHARGE = "charge"
        TAX = "tax"
        CREDIT = "credit"
        PAYMENT = "payment"
        CORRECTION = "correction", "correction of a charge"
        REVERSAL = "reversal", "payment or credit taken back"

    USAGE = (Kind.CHARGE, Kind.CORRECTION)
    NAMES_ANOTHER = (Kind.CORRECTION, Kind.REVERSAL)

    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="ledger")
    at = models.DateTimeField(help_text="when it was entered")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    month = models.DateField(help_text="the first day of the month that it belongs to, in the account's zone")
    amount = money()
    currency = models.CharField(max_length=3)
    key = models.CharField(max_length=120, unique=True)
    text = models.CharField(max_length=300)
    corrects = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="corrections")
    reservation = models.ForeignKey(
        Reservation, null=True, blank=True, on_delete=models.PROTECT, related_name="ledger_entries"
    )
    volume = models.ForeignKey(
        WorkspaceVolume, null=True, blank=True, on_delete=models.PROTECT, related_name="ledger_entries"
    )
    service = models.ForeignKey(Service, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    details = models.JSONField(default=dict, blank=True, help_text="how the amount came about")
    by = models.CharField(max_length=80)

    objects = LedgerEntryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "ledger entries"
        ordering = ["-at", "-pk"]
        constraints = [
            models.CheckConstraint(
                condition=~Q(kind__in=["credit", "payment"]) | Q(amount__lt=0), name="ledger_credits_and_payments_lower"
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["correction", "reversal"], corrects__isnull=False)
                | Q(kind__in=["charge", "tax", "credit", "payment"], corrects=None),
                name="ledger_corrections_name_another",
            ),
            models.CheckConstraint(condition=~Q(amount=0), name="ledger_amount_is_something"),
        ]
        indexes = [
            models.Index(fields=["workspace", "month", "kind"], name="ledger_of_month", include=["amount", "service"]),
            models.Index(fields=["workspace", "-at", "-id"], name="ledger_newest"),
            models.Index(fields=["reservation"], condition=Q(reservation__isnull=False), name="ledger_of_reservation"),
            models.Index(fields=["volume"], condition=Q(volume__isnull=False), name="ledger_of_volume"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.amount} {self.currency}: {self.text}"


class DailyCost(models.Model):
    """What of an entry belongs to which day: what charts are drawn from. Written with its entry, never changed."""

    entry = models.ForeignKey(LedgerEntry, on_delete=models.PROTECT, related_name="days")
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="+")
    service = models.ForeignKey(Service, null=True, on_delete=models.PROTECT, related_name="+")
    day = models.DateField()
    amount = money()
    core_seconds = models.DecimalField(max_digits=16, decimal_places=2, default=Decimal(0))

    class Meta:
        constraints = [models.UniqueConstraint(fields=["entry", "day"], name="daily_cost_once")]
        indexes = [
            models.Index(
                fields=["workspace", "day", "service"], name="daily_cost_of_day", include=["amount", "core_seconds"]
            )
        ]

    def __str__(self) -> str:
        return f"{self.amount} on {self.day}"


def month_text(month: date) -> str:
    """A month as 2026-05, as keys and commands have it."""
    return f"{month:%Y-%m}"
