"""A month's invoices of 1,000 workspaces with 10,000 reservations, and how quickly they become PDFs."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from tests.bench.ground import Ground
from tests.bench.place import scratch_database
from tests.bench.table import Outcome, Row

WORKSPACES, EACH, PDFS = 1000, 10, 40
BOUND_S, BOUND_PDF_MS = 60.0, 200.0
HOUR = timedelta(hours=1)


def measure(ground: Ground) -> Outcome:
    with scratch_database():
        return _measure()


def _measure() -> Outcome:
    from billing import charging, documents, invoices, typesetting
    from billing.models import Invoice, InvoiceLine

    june, july = datetime(2026, 6, 1, 1, tzinfo=UTC), datetime(2026, 7, 1, 1, tzinfo=UTC)
    _serve(_workspaces(), datetime(2026, 5, 2, tzinfo=UTC))
    uncharged = _seconds(lambda: invoices.issue_due(june))
    _serve_again(datetime(2026, 6, 2, tzinfo=UTC))
    charging_s = _seconds(lambda: charging.settle_due(july - 2 * HOUR))
    charged = _seconds(lambda: invoices.issue_due(july))
    nothing = _seconds(lambda: invoices.issue_due(july))
    issued, lines = Invoice.objects.count(), InvoiceLine.objects.count()
    if (issued, lines) != (2 * WORKSPACES, 2 * WORKSPACES * EACH):
        raise AssertionError(
            f"{issued} invoices with {lines} lines: the bench's database is not filled as it should be"
        )
    some = list(Invoice.objects.order_by("pk")[:PDFS])
    documents.render(some[0])  # starts the process that makes them
    each_ms = _seconds(lambda: [documents.render(invoice) for invoice in some]) / PDFS * 1000
    typesetting.end()
    of = f"{WORKSPACES:,} workspaces with {WORKSPACES * EACH:,} reservations"
    return Outcome(
        "invoices",
        [
            Row(f"invoices of {of}, charged before", charged, "s", BOUND_S, f"{WORKSPACES / charged:.0f} a second"),
            Row(
                "the same, charged with the invoice", uncharged, "s", BOUND_S, f"{WORKSPACES / uncharged:.0f} a second"
            ),
            Row("a round with nothing to issue", nothing * 1000, "ms"),
            Row(
                f"a PDF with {EACH} lines, mean of {PDFS}",
                each_ms,
                "ms",
                BOUND_PDF_MS,
                f"{1000 / each_ms:.1f} a second",
            ),
        ],
        [f"charging {WORKSPACES * EACH:,} reservations by themselves took {charging_s:.1f} s; one thread throughout"],
    )


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _workspaces() -> list[int]:
    from accounts.models import Membership, User, Workspace
    from billing.models import BillingAccount

    users = User.objects.bulk_create(
        User(username=f"customer{n}", email=f"customer{n}@example.org") for n in range(WORKSPACES)
    )
    found = Workspace.objects.bulk_create(Workspace(name=user.username, personal_of=user) for user in users)
    Membership.objects.bulk_create(
        Membership(workspace=workspace, user=user, role="owner") for workspace, user in zip(found, users, strict=True)
    )
    BillingAccount.objects.bulk_create(BillingAccount(workspace=workspace, currency="USD") for workspace in found)
    return [workspace.pk for workspace in found]


def _serve_again(start: datetime) -> None:
    from accounts.models import Workspace

    _serve(list(Workspace.objects.order_by("pk").values_list("pk", flat=True)), start)


def _serve(workspaces: list[int], start: datetime) -> None:
    """Ten reservations each, of two intervals; one in five goes over days."""
    from django.db import connection
    from django.db.backends.postgresql.psycopg_any import DateTimeTZRange  # type: ignore[import-untyped]

    from billing.pricing import Price, Terms
    from reservations.models import Reservation, Service, Size, UsagePeriod

    size, _ = Size.objects.get_or_create(slug="small", defaults={"name": "Small", "cores": 1, "ram_mib": 512})
    service, _ = Service.objects.get_or_create(slug="nginx", defaults={"name": "nginx", "default_size": size})
    terms = Terms((Price(start, Decimal("0.50"), Decimal("0.05"), Decimal("0.10")),)).as_json()
    made = Reservation.objects.bulk_create(
        Reservation(
            workspace_id=workspace,
            service=service,
            image="nginx",
            ram_mib=512,
            cores=Decimal("0.5"),
            storage="C1",
            storage_gb=1,
            start=start + n * 24 * HOUR,
            end=start + n * 24 * HOUR + (90 * HOUR if n % 5 == 0 else 4 * HOUR),
            state="ended",
            price=Decimal(0),
            terms=terms,
            created_at=start,
        )
        for workspace in workspaces
        for n in range(EACH)
    )
    UsagePeriod.objects.bulk_create(
        UsagePeriod(reservation=row, generation=1, cores=row.cores, during=DateTimeTZRange(opens, closes, "[)"))
        for row in made
        for opens, closes in ((row.start, row.start + 1.3 * HOUR), (row.start + 2 * HOUR, row.end))
    )
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")  # as autovacuum leaves it
