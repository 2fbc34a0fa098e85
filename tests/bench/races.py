"""10,000 attempts on last slots and last ports, sixteen at a time; nobody may ever get what somebody else has.

Each round is a window of its own in which exactly one place (or one public port) is left, and everybody wants it at
the same instant, in a transaction and over a connection of his own. What was lent is counted by SQL afterwards, apart
from the code that lends.
"""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import connection, transaction
from django.utils import timezone

from tests.bench.ground import Ground
from tests.bench.place import scratch_database
from tests.bench.table import Outcome, Row

RACES, RACERS = 10_000, 16
SLOT, PORT = "slot", "port"
_REST = timedelta(minutes=10)
_APART, _LASTS = timedelta(hours=3), timedelta(hours=2)
_HELD_TWICE = """
SELECT (SELECT count(*) FROM compute_forward a JOIN compute_forward b
        ON a.id < b.id AND a.gateway_id = b.gateway_id AND a.public_port = b.public_port AND a.during && b.during)
     + (SELECT count(*) FROM compute_allocation a WHERE EXISTS (
          SELECT 1 FROM compute_allocation b JOIN compute_node n ON n.id = b.node_id
          WHERE b.node_id = a.node_id AND b.during @> lower(a.during)
          GROUP BY n.id HAVING sum(b.ram_mib) > n.ram_mib OR sum(b.cores) > n.cores))
"""


@dataclass(frozen=True, slots=True)
class Races:
    """What came of them: `held_twice` and `not_won` (rounds without exactly one winner) should be 0."""

    attempts: int
    rounds: int
    held_twice: int
    not_won: int
    seconds: float


def measure(ground: Ground) -> Outcome:
    with scratch_database():
        found = race(RACES, RACERS, timezone.now())
    says = f"{found.rounds} rounds of {RACERS} at the same instant, half for a slot, half for a port"
    return Outcome(
        "races",
        [
            Row(f"double-bookings in {found.attempts:,} races on last slots and ports", found.held_twice, "", 0),
            Row("rounds that nobody won, or more than one", found.not_won, "", 0),
        ],
        [f"{says}; {found.seconds:.0f} s, {found.attempts / found.seconds:.0f} attempts a second"],
    )


def race(attempts: int, racers: int, now: datetime) -> Races:
    """On an empty migrated database, which is full of what was lent afterwards."""
    rounds = attempts // racers
    kinds = [SLOT if number % 2 else PORT for number in range(rounds)]
    others = _make_nodes()
    together = threading.Barrier(racers)

    def run(_: int) -> list[bool]:
        """One racer's answers, round by round."""
        try:
            won = []
            for number, kind in enumerate(kinds):
                together.wait(60)
                won.append(_try(now + _APART * (number + 1), others[kind]))
            return won
        finally:
            connection.close()

    begun = time.perf_counter()
    with ThreadPoolExecutor(racers) as pool:
        winners = [sum(answers) for answers in zip(*pool.map(run, range(racers)), strict=True)]
    seconds = time.perf_counter() - begun
    not_won = sum(count != 1 for count in winners)
    return Races(rounds * racers, rounds, _held_twice(), not_won, seconds)


def _make_nodes() -> dict[str, Sequence[int]]:
    """For each kind of race the nodes that it must not use: one node has one slot, the other's gateway one port."""
    from compute.models import Gateway, Node

    ids = {}
    for kind, room, ports in ((SLOT, 1, 1000), (PORT, 100, 1)):
        gateway = Gateway.objects.create(
            name=kind, driver="direct", public_address="198.51.100.1", port_first=20000, port_last=19999 + ports
        )
        ids[kind] = Node.objects.create(
            name=kind,
            gateway=gateway,
            address="10.0.0.1",
            engine_url=f"tcp://{kind}:2376",
            ram_mib=512 * room,
            cores=Decimal("0.5") * room,
        ).pk
    return {SLOT: [ids[PORT]], PORT: [ids[SLOT]]}


def _try(start: datetime, exclude: Sequence[int]) -> bool:
    from compute import capacity
    from compute.capacity import NoCapacity, PortRequest
    from compute.scheduler import Request

    request = Request(512, Decimal("0.5"), start, start + _LASTS)
    try:
        with transaction.atomic():
            capacity.place(request, [PortRequest("web", "http", 80)], rest=_REST, exclude=exclude)
    except NoCapacity:
        return False
    return True


def _held_twice() -> int:
    with connection.cursor() as cursor:
        cursor.execute(_HELD_TWICE)
        return int(cursor.fetchone()[0])
