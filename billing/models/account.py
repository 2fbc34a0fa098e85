"""A workspace as somebody who pays."""

from decimal import Decimal
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from accounts.models import Workspace
from accounts.validators import no_control_characters, validate_time_zone

MOST = Decimal("99999999.99")


def money(**options: object) -> models.DecimalField:  # type: ignore[type-arg]
    """A column for an amount in the account's currency."""
    return models.DecimalField(max_digits=14, decimal_places=2, **options)  # type: ignore[arg-type]


class BillingAccount(models.Model):
    """To whom a workspace's bills go, and how much it may spend. Made when it is first needed."""

    workspace = models.OneToOneField(
        Workspace, on_delete=models.PROTECT, primary_key=True, related_name="billing_account"
    )
    currency = models.CharField(max_length=3)
    recipient = models.CharField(
        "name on the invoice",
        max_length=120,
        blank=True,
        validators=[no_control_characters],
        help_text="Empty: the workspace's.",
    )
    address = models.TextField(max_length=500, blank=True, help_text="As it is printed, one line for each line.")
    tax_number = models.CharField(max_length=40, blank=True, validators=[no_control_characters])
    email = models.EmailField("e-mail for bills", blank=True, help_text="Empty: the workspace's owners.")
    time_zone = models.CharField(
        max_length=64,
        blank=True,
        validators=[validate_time_zone],
        help_text="Where this account's months begin. Empty: as the installation has it.",
    )
    monthly_budget = money(
        null=True,
        blank=True,
        validators=[MinValueValidator(Decimal("0.01")), MaxValueValidator(MOST)],
        help_text="Mails come at 50, 80 and 100 %. Empty: none.",
    )
    hard_stop = models.BooleanField(default=False, help_text="Refuse bookings that would go over the budget.")
    credit_limit = money(
        null=True,
        blank=True,
        validators=[MinValueValidator(Decimal(0)), MaxValueValidator(MOST)],
        help_text="How much may be owed, tax and running bookings included. 0: prepaid. Empty: no limit.",
    )
    closed_through = models.DateField(null=True, editable=False, help_text="the last month that was closed")

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(monthly_budget=None) | Q(monthly_budget__gt=0),
                name="account_budget_is_something",
                violation_error_message="A budget must be more than zero.",
            ),
            models.CheckConstraint(
                condition=Q(credit_limit=None) | Q(credit_limit__gte=0),
                name="account_credit_limit_not_negative",
                violation_error_message="A credit limit cannot be negative.",
            ),
        ]

    def __str__(self) -> str:
        return f"account of {self.workspace}"

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone or settings.BERTH_BILLING_TIME_ZONE)


class BudgetNotice(models.Model):
    """A mail that told that so much of a month's budget is spent. Each is sent once."""

    account = models.ForeignKey(BillingAccount, on_delete=models.CASCADE, related_name="budget_notices")
    month = models.DateField()
    percent = models.PositiveSmallIntegerField()
    budget = money()
    spent = money()
    noted_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "month", "percent", "budget"], name="budget_notice_once")
        ]

    def __str__(self) -> str:
        return f"{self.percent} % of {self.month:%Y-%m} for {self.account}"
