"""The customer's pages about money, of a workspace with 10,000 ledger entries in this month, in a scratch database.

The entries are made by charging itself from reservations that were served; a few more are running.
"""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.bench.ground import Ground
from tests.bench.place import scratch_database
from tests.bench.table import Outcome, Row, quantile

ENTRIES, RUNNING = 10_000, 5
PAGES = ("/billing/", "/billing/ledger/", "/billing/ledger/?q=course+77&kind=charge")
TIMES, WARM_UP = 60, 5
BOUND_MS = 100.0


def measure(ground: Ground) -> Outcome:
    with scratch_database():
        client = _fill()
        rows = [row for path in PAGES for row in _rows(client, path)]
    return Outcome(
        "billing", rows, [f"{ENTRIES:,} charges in this month, {RUNNING} reservations that run, one process"]
    )


def _rows(client: Client, path: str) -> Iterator[Row]:
    times = []
    for number in range(WARM_UP + TIMES):
        begun = time.perf_counter()
        answer = client.get(path)
        if answer.status_code != 200:
            raise AssertionError(f"{path} answers {answer.status_code}")
        if number >= WARM_UP:
            times.append((time.perf_counter() - begun) * 1000)
    shown = f"p50 {quantile(times, 0.5):.1f}, p95 {quantile(times, 0.95):.1f} ms"
    yield Row(f"{path} with {ENTRIES:,} entries: p95 of {TIMES}", quantile(times, 0.95), "ms", BOUND_MS, shown)
    with CaptureQueriesContext(connection) as context:
        client.get(path)
    yield Row(f"{path}: queries", len(context), "", None, "")


def _fill() -> Client:
    """A customer, logged in, who was charged so often; as autovacuum leaves the tables."""
    from accounts.actions import open_personal_workspace
    from accounts.models import User
    from billing import charging
    from billing.models import BillingAccount, LedgerEntry

    person = User.objects.create_user("bench", "bench@example.org")
    workspace = open_personal_workspace(user=person, by=person)
    now = timezone.now()
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    _serve(workspace, first, now)
    charging.settle(workspace.pk, now)
    BillingAccount.objects.filter(workspace=workspace).update(monthly_budget=Decimal(9000))
    if (there := LedgerEntry.objects.count()) != ENTRIES:
        raise AssertionError(
            f"{there} entries instead of {ENTRIES}: the bench's database is not filled as it should be"
        )
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    return client


def _serve(workspace: Any, first: datetime, now: datetime) -> None:
    from django.db.backends.postgresql.psycopg_any import DateTimeTZRange  # type: ignore[import-untyped]

    from billing import tariffs
    from reservations.models import Reservation, UsagePeriod
    from tests.factories import make_service

    services = [make_service(f"service{number}") for number in range(6)]
    terms = tariffs.terms_for(workspace.pk, first, now).as_json()
    rows = []
    for number in range(ENTRIES + RUNNING):
        runs = number >= ENTRIES
        begin = now - timedelta(hours=3) if runs else first + (now - first) * number / (ENTRIES + 1)
        rows.append(
            Reservation(
                workspace=workspace,
                name=f"course {number}",
                service=services[number % 6],
                image="x",
                ram_mib=512,
                cores=Decimal(1),
                storage="C1",
                storage_gb=1,
                start=begin,
                end=now + timedelta(days=20) if runs else now,
                state="running" if runs else "ended",
                price=Decimal(1),
                terms=terms,
                created_at=begin,
            )
        )
    periods = [
        UsagePeriod(
            reservation=row,
            generation=1,
            cores=row.cores,
            during=DateTimeTZRange(
                row.start, None if row.state == "running" else min(row.start + timedelta(hours=2), now)
            ),
        )
        for row in Reservation.objects.bulk_create(rows)
    ]
    UsagePeriod.objects.bulk_create(periods)
