"""The answer while somebody is choosing, and the week's picture: 1,000 nodes and 100,000 live reservations.

In a scratch database and through the whole of Django, without a web server. A price that falls in the night makes the
cheapest start of 48 hours a question of its own. What nobody has room for now is asked for twice: a little more than
the largest hole, which is free soon, and a whole node of the largest kind, which is free last of all.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone

from tests.bench.ground import Ground
from tests.bench.place import NODES, PER_NODE, scratch_database
from tests.bench.table import Outcome, Row

QUOTE_MS, WEEK_MS = 60.0, 150.0
LENGTH = timedelta(hours=2)
MEASURED_MINUTES = 10


def measure(ground: Ground) -> Outcome:
    from tests.bench import booked, timing

    now = timezone.now()
    with scratch_database():
        booked.fill(now)
        who = booked.customer()
        cheaper_from(now + timedelta(hours=20), who.workspace)
        rows, notes = [], []
        for what, path, sent, shows, bound in _questions(now):
            call = timing.ask(who.client, path, sent, shows=shows)
            rows.append(timing.row(what, call, bound_ms=bound))
            notes.append(f"{what}: {timing.queries(call)} queries")
        rows.append(_with_many_of_its_own(who, now))
    return Outcome(
        "availability", rows, [f"{NODES} nodes, {NODES * PER_NODE:,} live reservations, one process", *notes]
    )


def cheaper_from(at: datetime, workspace: Any) -> None:
    """The workspace's price falls then."""
    from django.conf import settings
    from django.db.backends.postgresql.psycopg_any import DateTimeTZRange  # type: ignore[import-untyped]

    from billing.models import Rate

    low = settings.BERTH_PRICE_PER_CORE_HOUR / 2
    during = DateTimeTZRange(at, None, "[)")
    Rate.objects.create(workspace=workspace, currency=settings.BERTH_CURRENCY, during=during, per_core_hour=low)


def _questions(now: datetime) -> Iterator[tuple[str, str, dict[str, Any], str | tuple[str, ...], float]]:
    usual = {
        "service": "nginx",
        "size": "small",
        "storage": "C1",
        "copies": "1",
        "duration": str(int(LENGTH.seconds / 60)),
    }
    later = f"{now + timedelta(days=3):%Y-%m-%dT%H:00}"
    cores, ram_mib = largest_hole(now)
    hole = usual | {"size": "custom", "cores": str(cores), "ram_mib": str(ram_mib)}
    whole = usual | {"size": "custom", "cores": "128", "ram_mib": "524288"}
    quote = "/reservations/quote/"
    fits, full = "There is room at that time.", "No resources available"
    earliest, smaller = "The earliest time it fits", "fits at that time"
    instead = (full, earliest, "Cheapest within two days", smaller)
    yield "choosing: it fits now", quote, usual, fits, QUOTE_MS
    yield "choosing: it fits in three days", quote, usual | {"start": later}, fits, QUOTE_MS
    yield "choosing: ten copies fit now", quote, usual | {"copies": "10"}, fits, QUOTE_MS
    yield "choosing: a little more than any node has free now, and what else there is", quote, hole, instead, QUOTE_MS
    yield (
        "choosing: a whole node of the largest kind, and what else there is",
        quote,
        whole,
        (full, earliest, smaller),
        QUOTE_MS,
    )
    yield "the week's picture", "/reservations/week/", usual, "week", WEEK_MS
    yield "the week's picture of a size that is tight", "/reservations/week/", hole, "week", WEEK_MS


def largest_hole(now: datetime) -> tuple[Decimal, int]:
    """Cores and RAM of which no node has as much free in the next minutes: a step more RAM than the node with most."""
    from compute import capacity
    from compute.scheduler import Request
    from reservations.sizes import LEAST_RAM_MIB, RAM_STEP_MIB

    later = [now + timedelta(minutes=minutes) for minutes in range(MEASURED_MINUTES)]
    requests = [Request(LEAST_RAM_MIB, Decimal("0.25"), start, start + LENGTH) for start in later]
    most = max(row.ram_mib - row.peak_ram_mib for request in requests for row in capacity.peaks(request))
    return Decimal("0.25"), (most // RAM_STEP_MIB + 1) * RAM_STEP_MIB


def _with_many_of_its_own(who: Any, now: datetime) -> Row:
    """The quota of a workspace that holds much is counted from all that it holds."""
    from reservations.models import Reservation
    from tests.bench import booked, timing

    rows = [booked.reservation_of(who.workspace, who.user, number, now) for number in range(1000)]
    Reservation.objects.bulk_create(rows)
    booked.vacuum()
    _, path, sent, shows, bound = next(_questions(now))
    what = "choosing: it fits now, for a workspace that has 1,000 of them"
    return timing.row(what, timing.ask(who.client, path, sent, shows=shows), bound_ms=bound)
