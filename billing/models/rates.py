"""What a unit costs, from when to when."""

from decimal import Decimal

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import DateTimeRangeField, RangeOperators
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q, Value
from django.db.models.functions import Coalesce

from accounts.models import Workspace
from accounts.validators import no_control_characters
from billing.pricing import Rounding

HIGHEST = Decimal(10_000)


def _price(**options: object) -> models.DecimalField:  # type: ignore[type-arg]
    """A column for a price of a unit: finer than a cent."""
    return models.DecimalField(
        max_digits=10,
        decimal_places=4,
        validators=[MinValueValidator(Decimal(0)), MaxValueValidator(HIGHEST)],
        **options,  # type: ignore[arg-type]
    )


class Rate(models.Model):
    """Prices that hold over `during`: the list's, or those of one workspace instead of the list's.

    Where no row holds, BERTH_PRICE_PER_CORE_HOUR does. What has begun is never changed, only ended (a trigger).
    """

    workspace = models.ForeignKey(
        Workspace,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="rates",
        help_text="Empty: the list price.",
    )
    currency = models.CharField(max_length=3)
    during = DateTimeRangeField(help_text="from when to when; no end: until further notice")
    per_core_hour = _price()
    per_gib_hour = _price(default=Decimal(0), verbose_name="per GiB of RAM and hour")
    per_gb_month = _price(default=Decimal(0), verbose_name="per GB of stored volume and month")
    rounding = models.CharField(
        max_length=6, choices=[(mode.value, f"per {mode}") for mode in Rounding], default=Rounding.HOUR.value
    )

    class Meta:
        ordering = ["-during"]
        constraints = [
            ExclusionConstraint(
                name="rate_no_overlap",
                expressions=[
                    (Coalesce("workspace", Value(0)), RangeOperators.EQUAL),
                    ("currency", RangeOperators.EQUAL),
                    ("during", RangeOperators.OVERLAPS),
                ],
                violation_error_message="Another rate holds at that time already; end that one first.",
            ),
            models.CheckConstraint(
                condition=Q(
                    per_core_hour__range=(0, HIGHEST),
                    per_gib_hour__range=(0, HIGHEST),
                    per_gb_month__range=(0, HIGHEST),
                ),
                name="rate_within_reason",
                violation_error_message=f"A price must be between 0 and {HIGHEST:,}.",
            ),
            models.CheckConstraint(
                condition=Q(during__startswith__isnull=False),
                name="rate_has_a_begin",
                violation_error_message="Say from when on the rate holds.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.per_core_hour} {self.currency} per core and hour"


class Discount(models.Model):
    """Percent off everything that a workspace books, over `during`."""

    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="discounts")
    percent = models.DecimalField(
        max_digits=5, decimal_places=2, validators=[MinValueValidator(Decimal("0.01")), MaxValueValidator(Decimal(100))]
    )
    during = DateTimeRangeField(help_text="from when to when; no end: until further notice")
    reason = models.CharField(max_length=200, validators=[no_control_characters])

    class Meta:
        ordering = ["-during"]
        constraints = [
            ExclusionConstraint(
                name="discount_no_overlap",
                expressions=[("workspace", RangeOperators.EQUAL), ("during", RangeOperators.OVERLAPS)],
                violation_error_message="Another discount holds at that time already; end that one first.",
            ),
            models.CheckConstraint(
                condition=Q(percent__gt=0, percent__lte=100),
                name="discount_within_reason",
                violation_error_message="A discount is more than 0 and at most 100 percent.",
            ),
            models.CheckConstraint(
                condition=Q(during__startswith__isnull=False),
                name="discount_has_a_begin",
                violation_error_message="Say from when on the discount holds.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.percent} % for {self.workspace}"
