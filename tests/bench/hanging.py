"""How long bookings take to start on a healthy node while another node's engine hangs, beside the same without that."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lab.lab import Lab
from tests.bench.ground import Api, BenchError, Ground, booking, delete_all
from tests.bench.table import Outcome, Row, median

AT_ONCE = 10
ON_IT = 4  # reservations that run on the node when it begins to hang
ROUNDS = 3
BOUND = 1.2
GIVE_UP_S = 60.0


def measure(ground: Ground) -> Outcome:
    hanging, healthy = ground.info.nodes[0].name, ground.info.nodes[1].name
    with_hang, without, at_once = [], [], []
    try:
        for _ in range(ROUNDS):
            delete_all(ground)
            _place_on(hanging)
            for _ in range(ON_IT):
                start_one(ground.api())
            _place_on(healthy)
            without += start_many(ground)
            with hang(ground.lab, hanging):
                at_once += start_many(ground, hint=hanging)  # nobody knows yet that it hangs
                _wait_until_known(hanging)
                with_hang += start_many(ground)
            _wait_until_ok(hanging)
            without += start_many(ground)  # before and after, so that a machine that becomes busier tells nothing
    finally:
        _place_on(hanging, healthy)
        delete_all(ground)
    base = median(without)
    return Outcome(
        "hanging",
        [
            Row(
                f"start of {AT_ONCE} bookings on {healthy} while {hanging} hangs, median; without",
                median(with_hang) / base,
                "×",
                BOUND,
                f"{median(with_hang):.2f} s",
                f"{base:.2f} s",
            ),
            Row(
                "the same, booked in the second in which it begins to hang",
                median(at_once) / base,
                "×",
                BOUND,
                f"{median(at_once):.2f} s",
                f"{base:.2f} s",
            ),
        ],
        [f"{ROUNDS} rounds; slowest with the hang {max(with_hang + at_once):.2f} s, without {max(without):.2f} s"],
    )


@contextmanager
def hang(lab: Lab, node: str) -> Iterator[None]:
    """The node's engine stands still: connections are accepted by the kernel, and nobody answers."""
    lab.kill_daemon(node, "dockerd", signal.SIGSTOP)
    try:
        yield
    finally:
        lab.kill_daemon(node, "dockerd", signal.SIGCONT)


def start_one(api: Api) -> None:
    number = api.call("POST", "/reservations", booking())["id"]
    _until_running(api, {number: time.monotonic()})


def start_many(ground: Ground, hint: str = "") -> list[float]:
    """Book at once, delete when all run; the seconds that each took. What runs on `hint` is looked at meanwhile."""
    api = ground.api()
    if hint:
        _look_at_all_on(hint)
    begun: dict[int, float] = {}
    for _ in range(AT_ONCE):
        number = api.call("POST", "/reservations", booking())["id"]
        begun[number] = time.monotonic()
    took = _until_running(api, dict(begun))
    for number in begun:
        api.call("DELETE", f"/reservations/{number}")
    _until_gone(begun)
    return took


def _until_running(api: Api, waiting: dict[int, float]) -> list[float]:
    from reservations.models import Event, Reservation

    numbers, deadline = list(waiting), time.monotonic() + GIVE_UP_S
    while Reservation.objects.filter(pk__in=numbers, state="running").count() < len(numbers):
        if time.monotonic() > deadline:
            left = Reservation.objects.filter(pk__in=numbers).exclude(state="running")
            raise BenchError(f"not running after {GIVE_UP_S:g} s: {[(r.pk, r.state, r.reason) for r in left]}")
        time.sleep(0.05)
    rows = Event.objects.filter(reservation__in=numbers, new_state="running").select_related("reservation")
    return [(event.at - event.reservation.created_at).total_seconds() for event in rows]


def _until_gone(numbers: dict[int, float]) -> None:
    from reservations.models import Reservation
    from tests.bench.polling import wait_until

    if not wait_until(lambda: not Reservation.objects.live().filter(pk__in=numbers).exists(), seconds=60, interval=0.1):
        raise BenchError("what was booked does not end")


def _place_on(*names: str) -> None:
    """Only these nodes are given something new."""
    from compute.models import Node

    Node.objects.present().update(state=Node.State.CORDONED)
    Node.objects.filter(name__in=names).update(state=Node.State.ACTIVE)


def _look_at_all_on(name: str) -> None:
    """The workers look at what runs there, as after a hint: each look asks the node."""
    from django.utils import timezone

    from reservations.models import Reservation

    Reservation.objects.live().filter(containers__node__name=name).update(look_at=timezone.now())


def _wait_until_known(name: str) -> None:
    _wait_for_health(name, ["unknown", "lost"])


def _wait_until_ok(name: str) -> None:
    _wait_for_health(name, ["ok"])


def _wait_for_health(name: str, wanted: list[str]) -> None:
    from compute.models import Node
    from tests.bench.polling import wait_until

    if not wait_until(lambda: Node.objects.filter(name=name, health__in=wanted).exists(), seconds=60, interval=0.1):
        raise BenchError(f"{name} does not become {' or '.join(wanted)}")
