"""A round of the waiting list: 1,000 in line among 1,000 nodes with 100,000 live reservations.

Nothing is offered, which is what most rounds find, and each wish is smaller than all before it in the line, so that
"what is larger does not fit either" spares nothing.
"""

import time
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone

from tests.bench.ground import Ground
from tests.bench.place import scratch_database
from tests.bench.table import Outcome, Row, median

IN_LINE, WORKSPACES, ROUNDS = 1000, 20, 5
BOUND_S = 2.0  # a round is due every two seconds
LENGTH = timedelta(hours=2)


def measure(ground: Ground) -> Outcome:
    from reservations.models import WaitingEntry
    from tests.bench import booked
    from tests.bench.availability import largest_hole

    now = timezone.now()
    with scratch_database():
        booked.fill(now)
        who = [booked.customer(f"bench-{number}") for number in range(WORKSPACES)]
        _, too_much_mib = largest_hole(now)
        wait(who, now, least_ram_mib=too_much_mib)
        rows = [_row(f"a round: {IN_LINE:,} in line, there is room for none", now)]
        WaitingEntry.objects.all().delete()
        for one in who:
            one.workspace.max_reservations = 0
            one.workspace.save()
        wait(who, now, least_ram_mib=128)
        rows.append(_row(f"a round: {IN_LINE:,} in line, the quota refuses all", now))
    return Outcome("offering", rows, [f"{WORKSPACES} workspaces; the median of {ROUNDS} rounds, one process"])


def wait(who: list[Any], now: datetime, least_ram_mib: int) -> None:
    """So many in line, each with a smaller wish than the one before; the last wants the least."""
    from reservations.models import Service, WaitingEntry
    from reservations.sizes import RAM_STEP_MIB
    from tests.bench import booked

    service = Service.objects.order_by("pk")[0]
    WaitingEntry.objects.bulk_create(
        WaitingEntry(
            workspace=who[number % len(who)].workspace,
            created_by=who[number % len(who)].user,
            service=service,
            ram_mib=least_ram_mib + (IN_LINE - 1 - number) * RAM_STEP_MIB,
            cores=Decimal("0.25"),
            storage="C1",
            length=LENGTH,
            created_at=now,
            place_at=now + timedelta(milliseconds=number),
        )
        for number in range(IN_LINE)
    )
    booked.vacuum()


def _row(what: str, now: datetime) -> Row:
    from reservations import offering
    from reservations.models import WaitingEntry

    took, busy = [], []
    for number in range(ROUNDS):
        begun, begun_busy = time.perf_counter(), time.process_time()
        made = offering.look_after(now + timedelta(seconds=2 * number))
        took.append(time.perf_counter() - begun)
        busy.append(time.process_time() - begun_busy)
        untold = WaitingEntry.objects.in_line().filter(reason="").count()
        if made or untold:
            raise AssertionError(f"{made} offers were made, and {untold} were not told why they wait")
    return Row(what, median(took), "s", BOUND_S, f"slowest {max(took):.2f} s; Python alone {median(busy):.2f} s")
