"""From the POST of a booking to its first answer through the gateway, beside a bare `docker run` of the same image."""

import time
from dataclasses import dataclass, field

from tests.bench.bare import BareNode
from tests.bench.ground import Api, Ground, booking, live_ids
from tests.bench.polling import first_answer, wait_until
from tests.bench.table import Outcome, Row, median, quantile

TURNS = 20
WARM_UP = 2
MEDIAN_BOUND = 1.5
P95_BOUND_S = 1.5
STAGES = ("the POST answers", "a worker begins", "running", "first answer", "(gone after the delete)")


@dataclass
class Times:
    """Seconds of every turn."""

    berth: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    stages: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})


def measure(ground: Ground) -> Outcome:
    nodes = {n.name: BareNode(ground.lab, n.name, n.address, ground.image) for n in ground.info.nodes}
    api = ground.api()
    times = Times()
    try:
        for turn in range(-WARM_UP, TURNS):
            kept = Times() if turn < 0 else times
            node = _berth(api, kept)
            _bare(nodes[node], kept)
    finally:
        for bare in nodes.values():
            bare.remove_all()
    berth, bare_ = median(times.berth), median(times.bare)
    slow, bare_slow = quantile(times.berth, 0.95), quantile(times.bare, 0.95)
    stages = ", ".join(f"{stage} {median(values) * 1000:.0f}" for stage, values in times.stages.items())
    return Outcome(
        "first-answer",
        [
            Row(
                f"booking to first answer, median of {TURNS}; bare docker run",
                berth / bare_,
                "×",
                MEDIAN_BOUND,
                f"{berth:.3f} s",
                f"{bare_:.3f} s",
            ),
            Row("the same, 95th percentile", slow, "s", P95_BOUND_S, f"{slow:.3f} s", f"{bare_slow:.3f} s"),
        ],
        [
            f"ms after the POST was sent (medians): {stages}",
            f"turns, ms: Berth {_milliseconds(times.berth)}; bare {_milliseconds(times.bare)}",
            "Berth is asked at the gateway from the moment the POST answers, every 5 ms; bare docker (in the node's",
            "machine, over its Unix socket) at the node's port from the moment it returns, which is best for it",
        ],
    )


def _milliseconds(values: list[float]) -> str:
    return " ".join(f"{value * 1000:.0f}" for value in values)


def _berth(api: Api, times: Times) -> str:
    """One booking; returns the node's name."""
    wall, begun = time.time(), time.perf_counter()
    got = api.call("POST", "/reservations", booking())
    posted = time.perf_counter()
    try:
        endpoint = got["endpoints"][0]
        answered = first_answer(endpoint["host"], endpoint["port"])
        wait_until(lambda: _event_times(got["id"]).get("running") is not None, seconds=10, interval=0.02)
        events = _event_times(got["id"])
    finally:
        deleted = time.perf_counter()
        api.call("DELETE", f"/reservations/{got['id']}")
        wait_until(lambda: got["id"] not in live_ids(), seconds=60, interval=0.02)
    gone = time.perf_counter() - deleted
    times.berth.append(answered - begun)
    found = (posted - begun, events["starting"] - wall, events["running"] - wall, answered - begun, gone)
    for stage, value in zip(STAGES, found, strict=True):
        times.stages[stage].append(value)
    return str(got["node"])


def _event_times(pk: int) -> dict[str, float]:
    """When it entered each state, as a Unix time."""
    from reservations.models import Event

    rows = Event.objects.filter(reservation=pk).exclude(new_state="").values_list("new_state", "at")
    return {state: at.timestamp() for state, at in rows}


def _bare(node: BareNode, times: Times) -> None:
    port = node.next_port()
    begun = time.perf_counter()
    process = node.start(port)
    try:
        # Asked from the moment it returns. Asking earlier would make it look slow: a question that meets the port
        # before the container's interface is up leaves the node waiting a second before it looks for it again (ARP).
        node.wait(process)
        times.bare.append(first_answer(node.address, port) - begun)
    finally:
        node.remove_all()
