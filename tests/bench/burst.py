"""Forty bookings at once until all answer through the gateway, beside eight threads with forty bare `docker run`."""

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

from tests.bench.bare import BareNode
from tests.bench.ground import BenchError, Ground, booking, delete_all
from tests.bench.polling import Crowd
from tests.bench.table import Outcome, Row, median

AT_ONCE = 40
BARE_THREADS = 8
ROUNDS = 3
BOUND = 1.3
ASK_EVERY_S = 0.05
GIVE_UP_S = 120.0


def measure(ground: Ground) -> Outcome:
    nodes = {n.name: BareNode(ground.lab, n.name, n.address, ground.image, many=True) for n in ground.info.nodes}
    _check_room()
    _side_by_side([node.remove_all for node in nodes.values()])  # what a killed run left
    berth, bare, posted, spread = [], [], [], Counter[str]()
    try:
        for _ in range(ROUNDS):
            took, took_posts, spread = _berth(ground)
            berth.append(took)
            posted.append(took_posts)
            delete_all(ground)
            _side_by_side([node.make_network for node in nodes.values()])
            bare.append(_bare(nodes, spread))
            _side_by_side([node.remove_all for node in nodes.values()])
    finally:
        _side_by_side([node.remove_all for node in nodes.values()])
    what = f"{AT_ONCE} bookings at once, median of {ROUNDS}; {BARE_THREADS} threads of bare docker run"
    ratio = median(berth) / median(bare)
    row = Row(what, ratio, "×", BOUND, f"{median(berth):.2f} s", f"{median(bare):.2f} s")
    return Outcome(
        "burst",
        [row],
        [
            f"rounds, s: Berth {_seconds(berth)}; bare {_seconds(bare)}; all POSTs answered after {_seconds(posted)}",
            "on the nodes: " + ", ".join(f"{name} {count}" for name, count in sorted(spread.items())),
        ],
    )


def _seconds(values: list[float]) -> str:
    return " ".join(f"{value:.2f}" for value in values)


def _check_room() -> None:
    """That the nodes can hold them all, so that none is refused."""
    from compute.models import Node
    from reservations.models import Size
    from tests.bench.ground import SIZE

    size = Size.objects.get(slug=SIZE)
    room = sum(min(n.ram_mib // size.ram_mib, int(n.cores // size.cores)) for n in Node.objects.lending())
    if room < AT_ONCE:
        raise BenchError(f"the nodes in service can hold {room} of size {SIZE}; the burst needs {AT_ONCE}")


def _berth(ground: Ground) -> tuple[float, float, Counter[str]]:
    """Seconds until all answer, seconds until all are booked, and how many each node got."""
    crowd = Crowd(ASK_EVERY_S)

    def book() -> str:
        got = ground.api().call("POST", "/reservations", booking())
        for endpoint in got["endpoints"]:
            crowd.add(endpoint["host"], endpoint["port"])
        return str(got["node"])

    with ThreadPoolExecutor(AT_ONCE) as pool:
        begun = time.perf_counter()
        booked = [pool.submit(book) for _ in range(AT_ONCE)]
        for future in booked:
            future.add_done_callback(crowd.note_failure)
        noted = pool.submit(lambda: (wait(booked), time.perf_counter())[1])
        answered = crowd.wait_for(AT_ONCE, give_up_s=GIVE_UP_S)
        spread = Counter(future.result() for future in booked)
    return answered - begun, noted.result() - begun, spread


def _bare(nodes: dict[str, BareNode], spread: Counter[str]) -> float:
    """Seconds until as many bare containers answer, on the same nodes in the same proportion, evenly mixed."""
    crowd = Crowd(ASK_EVERY_S)
    order = sorted((number / count, name) for name, count in spread.items() for number in range(count))

    def run(name: str) -> None:
        node = nodes[name]
        port = node.next_port()
        node.run(port)
        crowd.add(node.address, port)

    with ThreadPoolExecutor(BARE_THREADS) as pool:
        begun = time.perf_counter()
        for future in [pool.submit(run, name) for _, name in order]:
            future.add_done_callback(crowd.note_failure)
        answered = crowd.wait_for(len(order), give_up_s=GIVE_UP_S)
    return answered - begun


def _side_by_side(calls: list[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(len(calls)) as pool:
        for future in [pool.submit(call) for call in calls]:
            future.result()
