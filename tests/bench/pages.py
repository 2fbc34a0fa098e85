"""The customer's pages of a workspace with 1,000 live reservations, each with its container, port and history.

In a scratch database and through the whole of Django, without a web server. The number of queries is also that with
10 reservations: a page that asks once more for each row would take more of them.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from django.utils import timezone

from tests.bench.ground import Ground
from tests.bench.place import scratch_database
from tests.bench.table import Outcome, Row

if TYPE_CHECKING:
    from reservations.models import Reservation
    from tests.bench.booked import Customer

FEW, MANY = 10, 1000
PAGE_MS, CALENDAR_MS = 50.0, 100.0
FEED_MS = 1500.0  # a program fetches it every quarter of an hour; nobody waits for it
CHANGES = ("booked", "starting", "running")


def measure(ground: Ground) -> Outcome:
    from tests.bench import booked, timing

    now, rows = timezone.now(), []
    # Nobody may fetch the feed as often as it is measured.
    with scratch_database(), patch("reservations.views.calendar.FETCHES_A_MINUTE", 10_000):
        booked.catalogue()
        who = booked.customer()
        first = give(who, FEW, now)[0]
        few = {what: timing.queries(call) for what, call, _ in _pages(who, first)}
        give(who, MANY - FEW, now)
        booked.vacuum()
        for what, call, bound in _pages(who, first):
            rows.append(timing.row(f"{what} of {MANY:,} reservations", call, bound_ms=bound))
            many = timing.queries(call)
            rows.append(Row(f"{what}: queries more than with {FEW}", many - few[what], "", 0, f"{many} queries"))
    return Outcome("pages", rows, [f"{MANY:,} live reservations of one workspace, one process"])


def _pages(who: "Customer", first: "Reservation") -> list[tuple[str, Callable[[], bytes], float]]:
    from reservations import calendar_feed
    from tests.bench import timing

    calendar_feed.open_(user=who.user)
    who.user.refresh_from_db()
    assert who.user.calendar_key
    feed = f"/reservations/calendar/{calendar_feed.secret_of(who.user.calendar_key)}.ics"

    def page(path: str, shows: str) -> Callable[[], bytes]:
        return timing.ask(who.client, path, shows=shows)

    return [
        ("the list", page("/reservations/", first.service.name), PAGE_MS),
        ("the list, filtered and sorted", page("/reservations/?q=course&sort=dearest", "course"), PAGE_MS),
        ("the page of one", page(f"/reservations/{first.pk}/", first.name), PAGE_MS),
        ("the part of it that is fetched anew", page(f"/reservations/{first.pk}/state/", ""), PAGE_MS),
        ("the calendar's week", page("/reservations/calendar/", first.name), CALENDAR_MS),
        ("the calendar's month", page("/reservations/calendar/?view=month", first.name), CALENDAR_MS),
        ("the iCalendar feed", page(feed, "BEGIN:VEVENT"), FEED_MS),
    ]


def give(who: "Customer", many: int, now: datetime) -> "list[Reservation]":
    """So many more of the customer's reservations, which run."""
    from django.db.backends.postgresql.psycopg_any import DateTimeTZRange  # type: ignore[import-untyped]

    from billing import tariffs
    from compute.models import Gateway, Node
    from reservations.models import Event, Reservation, UsagePeriod
    from tests.bench import booked

    there = Reservation.objects.count()
    gateway, _ = Gateway.objects.get_or_create(
        name="gateway",
        defaults={"driver": "direct", "public_address": "198.51.100.1", "port_first": 20000, "port_last": 29999},
    )
    node, _ = Node.objects.get_or_create(
        name="node",
        defaults={
            "gateway": gateway,
            "address": "10.0.0.1",
            "engine_url": "tcp://x:2376",
            "ram_mib": 2**30,
            "cores": 9000,
        },
    )
    terms = tariffs.terms_for(who.workspace.pk, now - timedelta(hours=2), now + timedelta(hours=322)).as_json()
    rows = [booked.reservation_of(who.workspace, who.user, number, now, terms) for number in range(there, there + many)]
    for number, row in enumerate(rows):
        row.end += timedelta(hours=number % 300)
    Reservation.objects.bulk_create(rows)
    _give_places(rows, there, gateway, node)
    Event.objects.bulk_create(
        Event(reservation=row, at=row.start, old_state="", new_state=state, by="bench", text=f"It is {state}.")
        for row in rows
        for state in CHANGES
    )
    UsagePeriod.objects.bulk_create(
        UsagePeriod(reservation=row, generation=1, cores=row.cores, during=DateTimeTZRange(row.start)) for row in rows
    )
    return rows


def _give_places(rows: "list[Reservation]", there: int, gateway: Any, node: Any) -> None:
    from compute.capacity import window
    from compute.models import Allocation, Forward
    from reservations.models import Container, Endpoint

    places = Allocation.objects.bulk_create(
        Allocation(
            node=node, ram_mib=row.ram_mib, cores=row.cores, during=window(row.start, row.end), taken_at=row.start
        )
        for row in rows
    )
    Container.objects.bulk_create(
        Container(reservation=row, generation=1, node=node, allocation=place, presence="running")
        for row, place in zip(rows, places, strict=True)
    )
    forwards = Forward.objects.bulk_create(
        Forward(
            gateway=gateway,
            public_port=20_000 + there + number,
            node=node,
            node_port=20_000 + there + number,
            container_port=80,
            name="web",
            kind="http",
            during=window(row.start, row.end),
            wanted=True,
            applied=True,
        )
        for number, row in enumerate(rows)
    )
    Endpoint.objects.bulk_create(
        Endpoint(reservation=row, forward=forward) for row, forward in zip(rows, forwards, strict=True)
    )
