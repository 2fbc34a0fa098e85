"""What was served, written down as the life of a reservation leaves it; made by the tests of invoices."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.backends.postgresql.psycopg_any import DateTimeTZRange  # type: ignore[import-untyped]

from accounts.models import User, Workspace
from billing.accounts import account_of
from billing.models import BillingAccount
from billing.pricing import Price, Rounding, Terms
from reservations.models import Reservation, UsagePeriod
from reservations.states import State
from tests.factories import make_service, make_user, workspace_of

TERMS = Terms((Price(datetime.fromisoformat("2020-01-01T00:00:00+00:00"), Decimal("0.50")),), Rounding.HOUR)


def make_account(user: User | None = None, **values: Any) -> BillingAccount:
    """The account of a new customer's workspace."""
    account = account_of(workspace_of(user or make_user()).pk)
    for name, value in values.items():
        setattr(account, name, value)
    account.save()
    return account


def serve(
    workspace: Workspace,
    *intervals: tuple[datetime, datetime | None],
    state: str = State.ENDED,
    cores: Decimal = Decimal(1),
    terms: Terms = TERMS,
    **values: Any,
) -> Reservation:
    """A reservation that served over these intervals; the last may be open while it is running."""
    start = values.pop("start_at", None) or intervals[0][0]
    end = values.pop("end", None) or intervals[-1][1]
    assert end is not None, "say when a running one ends"
    reservation = Reservation.objects.create(
        workspace=workspace,
        service=values.pop("service", None) or make_service(),
        image="nginx@sha256:0",
        ram_mib=512,
        cores=cores,
        storage="C1",
        storage_gb=1,
        start=start,
        end=end,
        state=state,
        price=Decimal(0),
        terms=terms.as_json(),
        created_at=start,
        **values,
    )
    for opens, closes in intervals:
        during = DateTimeTZRange(opens, closes, "[)")
        UsagePeriod.objects.create(reservation=reservation, generation=1, cores=cores, during=during)
    return reservation
