"""What an admin can do to prices, and an owner to the account: each one durable transaction with its audit row."""

from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange  # type: ignore[import-untyped]

from accounts import audit
from accounts.models import Workspace
from billing.accounts import lock
from billing.models import BillingAccount, Discount, Rate

PriceRow = TypeVar("PriceRow", Rate, Discount)


class InvalidPrice(Exception):
    """A rate or discount that cannot be; `problems` has a sentence for each field ("" is none in particular)."""

    code = "invalid"

    def __init__(self, problems: dict[str, str]) -> None:
        self.problems = problems
        super().__init__(" ".join(problems.values()))


def set_rate(
    *,
    workspace: Workspace | None,
    start: datetime | None,
    end: datetime | None,
    by: object,
    now: datetime,
    replace: bool = False,
    **prices: Any,
) -> Rate:
    """Let these prices hold over [start, end), for everybody or for one workspace; `start` None is now.

    They are for what is booked, extended or kept from now on. `replace`: the rate that holds at the start ends then.

    `prices`: per_core_hour, per_gib_hour, per_gb_month, rounding. Raises InvalidPrice: a price below zero or absurd, a
    start in the past (what was served keeps its price), or another rate that holds at that time.
    """
    rate = Rate(workspace=workspace, currency=settings.BERTH_CURRENCY, **prices)
    return _begin(rate, start, end, by, now, replace)


def set_discount(
    *,
    workspace: Workspace,
    percent: Decimal,
    reason: str,
    start: datetime | None,
    end: datetime | None,
    by: object,
    now: datetime,
    replace: bool = False,
) -> Discount:
    """Take so many percent off what the workspace books over [start, end). Raises InvalidPrice.

    `replace`: the discount that holds at the start ends then.
    """
    return _begin(Discount(workspace=workspace, percent=percent, reason=reason.strip()), start, end, by, now, replace)


def end_price(*, price: PriceRow, at: datetime, by: object, now: datetime) -> PriceRow:
    """Let a rate or discount hold until `at` only. Raises InvalidPrice when that is past or it is over by then."""
    with transaction.atomic(durable=True):
        row = type(price).objects.select_for_update().get(pk=price.pk)
        if at < now:
            raise InvalidPrice({"end": "It cannot end in the past: what was served keeps its price."})
        if at <= row.during.lower:
            raise InvalidPrice({"end": "It begins only then or later; delete it instead."})
        if row.during.upper and row.during.upper <= at:
            raise InvalidPrice({"end": f"It ends at {row.during.upper:%Y-%m-%d %H:%M} UTC already."})
        row.during = DateTimeTZRange(row.during.lower, at, "[)")
        row.save(update_fields=["during"])
        audit.record(by=by, action=f"{_kind(row)}.end", target=f"{_kind(row)}:{row.pk}", at=at.isoformat())
    return row


def delete_price(*, price: Rate | Discount, by: object, now: datetime) -> None:
    """Take back a rate or discount that has not begun. Raises InvalidPrice when it has."""
    with transaction.atomic(durable=True):
        row = type(price).objects.select_for_update().get(pk=price.pk)
        if row.during.lower <= now:
            raise InvalidPrice({"": "It holds already; end it instead."})
        audit.record(by=by, action=f"{_kind(row)}.delete", target=f"{_kind(row)}:{row.pk}", what=str(row))
        row.delete()


def set_spending(
    *, workspace: Workspace, monthly_budget: Decimal | None, hard_stop: bool, by: object
) -> BillingAccount:
    """The owner's own bounds. What is booked already is never ended by them. Raises ValidationError."""
    return _change(workspace, by, "account.budget", monthly_budget=monthly_budget, hard_stop=hard_stop)


def set_credit_limit(*, workspace: Workspace, credit_limit: Decimal | None, by: object) -> BillingAccount:
    """How much the workspace may owe: 0 is prepaid, None no limit. Raises ValidationError."""
    return _change(workspace, by, "account.limit", credit_limit=credit_limit)


def set_recipient(*, workspace: Workspace, by: object, **values: Any) -> BillingAccount:
    """To whom bills go: recipient, address, tax_number, email, time_zone. Raises ValidationError.

    Invoices that are issued stay as they are; a new zone moves the begin of the months that are not closed yet.
    """
    return _change(workspace, by, "account.recipient", **values)


def _change(workspace: Workspace, by: object, action: str, **values: Any) -> BillingAccount:
    with transaction.atomic(durable=True):
        account = lock(workspace.pk)
        before = {name: str(getattr(account, name)) for name in values}
        for name, value in values.items():
            setattr(account, name, value)
        account.full_clean(exclude=["workspace"])
        account.save(update_fields=list(values))
        changed = {name: str(value) for name, value in values.items() if str(value) != before[name]}
        if changed:
            audit.record(by=by, action=action, target=f"workspace:{workspace.pk}", before=before, after=changed)
    return account


def _begin(
    row: PriceRow, start: datetime | None, end: datetime | None, by: object, now: datetime, replace: bool
) -> PriceRow:
    start = start or now
    if start < now:
        raise InvalidPrice({"start": "It cannot begin in the past: what was served keeps its price."})
    if end is not None and end <= start:
        raise InvalidPrice({"end": "The end must be after the start."})
    row.during = DateTimeTZRange(start, end, "[)")
    with transaction.atomic(durable=True):
        # One at a time: the exclusion constraint would refuse the second of two at once, but not in words.
        lock_table(type(row))
        if replace:
            _end_the_one_before(row, start, by)
        try:
            row.full_clean()
        except ValidationError as problem:
            raise InvalidPrice(_sentences(problem)) from problem
        row.save()
        audit.record(
            by=by, action=f"{_kind(row)}.begin", target=f"{_kind(row)}:{row.pk}", what=str(row), start=start.isoformat()
        )
    return row


def _end_the_one_before(row: PriceRow, at: datetime, by: object) -> None:
    rows = type(row).objects.filter(workspace=row.workspace, during__contains=at, during__startswith__lt=at)
    if isinstance(row, Rate):
        rows = rows.filter(currency=row.currency)
    for before in rows:
        before.during = DateTimeTZRange(before.during.lower, at, "[)")
        before.save(update_fields=["during"])
        audit.record(by=by, action=f"{_kind(row)}.end", target=f"{_kind(row)}:{before.pk}", at=at.isoformat())


def _sentences(problem: ValidationError) -> dict[str, str]:
    found = problem.message_dict.items()
    return {"" if field == "__all__" else field: " ".join(sentences) for field, sentences in found}


def lock_table(model: type[Rate | Discount]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {connection.ops.quote_name(model._meta.db_table)} IN SHARE ROW EXCLUSIVE MODE")


def _kind(row: Rate | Discount) -> str:
    return "rate" if isinstance(row, Rate) else "discount"
