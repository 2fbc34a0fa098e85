"""The reconcile loop: brings one reservation nearer to what should be.

`reconcile(id)` claims the row, reads what should be, observes what is, does idempotent steps, and records the
outcome only if the claim still holds. It can die at any line and be called again; two at once do the work of
one. Starting is in `starting.py`, taking down in `ending.py`.

Three kinds of trouble: the node said no (EngineRefused, CommandFailed), the node gave no answer (NoAnswer:
unknown, nothing is deleted or released upon it), and Stale (somebody else moved the row: drop what we know).
"""

import logging
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from structlog.contextvars import bound_contextvars

from compute import capacity, clocks, drivers
from compute.capacity import NoCapacity
from compute.engine import EngineRefused, RegistrySilent
from compute.failpoints import hit
from compute.health import mark_unreachable
from compute.models import Node
from compute.shell import CommandFailed, NoAnswer
from compute.spec import Observed, Presence
from reservations import actions, degraded, ending, moving, observing, restarting, starting, telling
from reservations.claims import Clock, claim, let_go, renew
from reservations.hints import hint
from reservations.models import Container, Reservation
from reservations.states import State
from reservations.transitions import PLATFORM, Stale, transition

logger = logging.getLogger(__name__)
MOST_STEPS = 8  # in one go, so that a fault in the table can never spin
MOST_RESTARTS = 3
SHORT_RUN = timedelta(minutes=10)
LEAVE_AGAIN = timedelta(seconds=50)
TELL_AGAIN = timedelta(seconds=10)


def reconcile(reservation_id: int, clock: Clock = timezone.now) -> None:
    """Do what can be done for this reservation now, and note when to look at it again."""
    with bound_contextvars(reservation=reservation_id):  # in every log line until it is let go
        _reconcile(reservation_id, clock)


def _reconcile(reservation_id: int, clock: Clock) -> None:
    if clocks.is_off():
        return
    reservation = claim(reservation_id, clock())
    if reservation is None:
        return
    token = reservation.claim_token
    hit("claimed")
    again = False
    try:
        for _ in range(MOST_STEPS):
            if not step(reservation, clock):
                break
    except Stale:
        again = True
    except Exception:  # a fault of ours or of a library: it is logged whole, said, and tried again with pauses
        logger.exception("reservation %d: looking at it failed", reservation_id)
        with suppress(Stale):
            try_again(reservation, "An internal error happened; it is tried again.", clock, renew_deadline=True)
    finally:
        let_go(reservation_id, token)
    if again:  # somebody moved it while we worked, and could not claim it: it is theirs to look at now
        hint(reservation_id)


def step(reservation: Reservation, clock: Clock) -> bool:
    """One step from today's state; True when the next one can follow at once."""
    now = clock()
    state = State(reservation.state)
    if state.final:
        return False
    if state != State.ENDING and now >= reservation.end:
        # Only if it still is: it may have been extended since it was read.
        over = {"token": reservation.claim_token, "only": Q(end__lte=now)}
        actions.start_ending(reservation, text="The booked time is over.", by=PLATFORM, now=now, **over)
        return True
    return STEPS[state](reservation, clock)


def _offered(reservation: Reservation, clock: Clock) -> bool:
    """Held for who waited, until its deadline; taking it makes it booked."""
    now = clock()
    until = reservation.deadline or reservation.end
    if now >= until:
        lapsed = {"token": reservation.claim_token, "only": Q(deadline__lte=now)}
        actions.start_ending(reservation, text="The offer was not taken in time.", by=PLATFORM, now=now, **lapsed)
        return True
    container = starting.container_of(reservation)
    if container.node.state == Node.State.DRAINING:
        return _leave(reservation, container, clock)
    return look_later(reservation, until)


def _booked(reservation: Reservation, clock: Clock) -> bool:
    """Begin when it is time and the place is really free; move to another node if its own is not in service."""
    now = clock()
    container = starting.container_of(reservation)
    if now < reservation.start:
        if container.node.state == Node.State.DRAINING:
            return _leave(reservation, container, clock)
        return look_later(reservation, reservation.start)
    if container.node.health != Node.Health.OK:
        return _start_elsewhere(reservation, container, f"{container.node.name} is not in service", clock)
    with transaction.atomic(durable=True):
        renew(reservation, now)  # its row before the node's, as everywhere: two waits in a circle are a deadlock
        wait = capacity.take(container.allocation, now)
        if not wait:
            transition(
                reservation,
                State.STARTING,
                text="Starting.",
                by=PLATFORM,
                now=now,
                token=reservation.claim_token,
            )
    if wait:
        return try_again(reservation, f"It starts as soon as it can: {wait}.", clock)
    return True


def _starting(reservation: Reservation, clock: Clock) -> bool:
    now = clock()
    late = reservation.deadline is not None and now >= reservation.deadline
    container = starting.container_of(reservation)
    if container.node.health == Node.Health.RETURNING and not late:
        return try_again(reservation, f"{container.node.name} is coming back.", clock, failed=False)
    if container.node.health != Node.Health.OK:
        return _node_silent(reservation, container, f"{container.node.name} is not in service", clock)
    if late:
        return give_up(reservation, f"It could not be started in time. {reservation.reason}".strip(), clock)
    try:
        with starting.told_failures():
            ready = starting.bring_up(reservation, container, clock)
    except starting.NodeSilent as problem:
        return _node_silent(reservation, container, str(problem), clock)
    except starting.MustWait as problem:
        return try_again(reservation, f"Waiting: {problem}.", clock, failed=False)
    except starting.PortsTaken:
        return try_again(reservation, "A port of the node was in use; another one is being tried.", clock)
    except NoCapacity as none:
        return try_again(reservation, str(none), clock, failed=False)
    except (EngineRefused, CommandFailed) as problem:
        if reservation.attempts >= 3 or isinstance(problem, starting.Hopeless):
            return give_up(reservation, f"It could not be started: {problem}", clock)
        return try_again(reservation, f"A step failed and is tried again: {problem}", clock)
    except RegistrySilent as problem:
        logger.warning("reservation %d: %s", reservation.pk, problem)
        return try_again(reservation, "The image registry gives no answer; waiting for it.", clock, failed=False)
    except NoAnswer as problem:  # gateway or storage server: the node is not to blame
        logger.warning("reservation %d: %s", reservation.pk, problem)
        return try_again(reservation, "Waiting for the gateway or the storage server to answer.", clock, failed=False)
    if not ready:
        return look_later(reservation, clock() + starting.LOOK_AGAIN)
    now = clock()
    transition(
        reservation,
        State.RUNNING,
        text="It answers at its address.",
        by=PLATFORM,
        now=now,
        token=reservation.claim_token,
        running_since=reservation.running_since or now,
    )
    return reservation.wish == Reservation.Wish.STOP or look_later(reservation, reservation.end)


def _running(reservation: Reservation, clock: Clock) -> bool:
    """Compare with the engine; stop on wish; start again what ended by itself."""
    container = starting.container_of(reservation)
    if container.node.health == Node.Health.LOST:
        return _lost(reservation, container, clock)
    if not container.node.answers:
        return try_again(reservation, f"{container.node.name} gives no answer at the moment.", clock)
    engine = drivers.engine(container.node)
    try:
        seen = engine.observe(container.machine_name)
        starting.check_key(reservation, seen)
        if reservation.wish == Reservation.Wish.STOP:
            served_until = observing.stop(container, engine, seen, clock)
            transition(
                reservation,
                State.STOPPED,
                text="Stopped. Its place and its data are kept until the end.",
                by=PLATFORM,
                now=clock(),
                token=reservation.claim_token,
                served_until=served_until,
            )
            return look_later(reservation, reservation.end)
        if reservation.restart_asked_at is not None and seen.presence in {Presence.RUNNING, Presence.EXITED}:
            restarting.carry_out(reservation, container, engine, seen, clock)
            return True
        if seen.presence == Presence.RUNNING and degraded.heal(reservation, container, clock):
            return True
    except starting.Hopeless as problem:
        return give_up(reservation, f"It was lost: {problem}", clock, served_until=container.observed_at)
    except (NoAnswer, EngineRefused) as problem:
        logger.warning("reservation %d: %s", reservation.pk, problem)
        return try_again(reservation, f"{container.node.name} gives no answer at the moment.", clock)
    if seen.presence == Presence.RUNNING:
        observing.write(container, seen, clock())
        if reservation.reason:
            Reservation.objects.filter(pk=reservation.pk, claim_token=reservation.claim_token).update(reason="")
        if not starting.tell_end(reservation, container):
            return look_later(reservation, clock() + TELL_AGAIN)
        if container.node.state == Node.State.DRAINING:
            return _leave(reservation, container, clock)
        return look_later(reservation, reservation.end)
    if seen.presence == Presence.UNKNOWN:
        return try_again(reservation, "The node's engine does not know how the container is.", clock)
    return _start_again(reservation, container, seen, clock)


def _start_again(reservation: Reservation, container: Container, seen: Observed, clock: Clock) -> bool:
    """It ended by itself; given up when it did so too often."""
    why = observing.why_it_ended(seen)
    restarts = reservation.restarts + 1 if _ran_shortly(reservation, clock()) else 1
    served_until = container.observed_at  # as running: anything else is only written once the usage is closed
    if restarts > MOST_RESTARTS:
        why = f"{why} It had been started again {MOST_RESTARTS} times."
        return give_up(reservation, why, clock, served_until=served_until)
    transition(
        reservation,
        State.STARTING,
        text=f"{why} It is started again.",
        by=PLATFORM,
        now=clock(),
        token=reservation.claim_token,
        served_until=served_until,
        reason=why,
        restarts=restarts,
    )
    observing.write(container, seen, clock())
    return True


def _stopped(reservation: Reservation, clock: Clock) -> bool:
    if reservation.wish == Reservation.Wish.STOP:
        return look_later(reservation, reservation.end)
    transition(
        reservation,
        State.STARTING,
        text="Starting again.",
        by=PLATFORM,
        now=clock(),
        token=reservation.claim_token,
    )
    return True


def _ending(reservation: Reservation, clock: Clock) -> bool:
    try:
        ending.take_down(reservation, clock)
    except (NoAnswer, EngineRefused, CommandFailed) as problem:
        ending.hold_on(reservation, clock())
        logger.warning("reservation %d: %s", reservation.pk, problem)
        return try_again(reservation, "Waiting to be sure that all of it is gone.", clock, renew_deadline=True)
    ending.finish(reservation, clock())
    return False


STEPS: dict[State, Callable[[Reservation, Clock], bool]] = {
    State.OFFERED: _offered,
    State.BOOKED: _booked,
    State.STARTING: _starting,
    State.RUNNING: _running,
    State.STOPPED: _stopped,
    State.ENDING: _ending,
}
if set(STEPS) != {state for state in State if not state.final}:
    raise AssertionError("every live state needs a step")


def _lost(reservation: Reservation, container: Container, clock: Clock) -> bool:
    """Its node is lost: what it served until its last sight is paid for, and it is started elsewhere."""
    why, seen_last = f"its node {container.node.name} was lost", container.observed_at
    try:
        moving.move(reservation, container, why, clock(), served_until=seen_last)
    except NoCapacity as none:
        now, text = clock(), f"Its node {container.node.name} was lost, and no other node has room: {none}"
        with transaction.atomic(durable=True):
            transition(
                reservation,
                State.STARTING,
                text=text,
                by=PLATFORM,
                now=now,
                token=reservation.claim_token,
                served_until=seen_last,
            )
            telling.lost_its_node(reservation, text, now=now)
    return True


def _leave(reservation: Reservation, container: Container, clock: Clock) -> bool:
    """Its node is being emptied: move if nothing is lost by it and there is room elsewhere, else stay to the end."""
    now = clock()
    if not moving.must_stay(container):
        try:
            moving.move(reservation, container, f"{container.node.name} is being emptied", now)
            return True
        except NoCapacity as none:
            logger.info("reservation %d stays on %s: %s", reservation.pk, container.node.name, none)
    again = now + LEAVE_AGAIN * random.uniform(0.8, 1.0)
    if now < reservation.start:
        again = min(again, reservation.start)
    if reservation.state == State.OFFERED and reservation.deadline:
        again = min(again, reservation.deadline)
    return look_later(reservation, again)


def _ran_shortly(reservation: Reservation, now: datetime) -> bool:
    """Whether it came up only a moment ago: one that keeps ending is given up, one that ends now and then is not."""
    up = reservation.events.filter(new_state=State.RUNNING).order_by("-at").values_list("at", flat=True).first()
    return up is None or now - up < SHORT_RUN


def _node_silent(reservation: Reservation, container: Container, problem: str, clock: Clock) -> bool:
    """The node gave no answer in the middle of a start: once may be chance, twice is another node's turn.

    Unless the customer's data is on that node's own disk: then it is waited for until the node is declared lost.
    """
    name = container.node.name
    if reservation.attempts < 1 and container.node.health == Node.Health.OK:
        return try_again(reservation, f"{name} gives no answer; trying again.", clock)
    mark_unreachable(container.node, problem)
    if container.node.health == Node.Health.LOST:
        return _start_elsewhere(reservation, container, f"its node {name} was lost", clock)
    if reservation.running_since and moving.must_stay(container):
        reason = f"{name} holds its data and gives no answer; it starts again when {name} is back."
        return try_again(reservation, reason, clock, renew_deadline=True)
    return _start_elsewhere(reservation, container, f"{container.node.name} gives no answer", clock)


def _start_elsewhere(reservation: Reservation, container: Container, why: str, clock: Clock) -> bool:
    """Place it anew on another node; what may be left on the old one is removed when that answers again."""
    try:
        moving.move(reservation, container, why, clock())
    except NoCapacity as none:
        return try_again(reservation, f"{why}, and no other node has room: {none}", clock, renew_deadline=True)
    return True


def look_later(reservation: Reservation, at: datetime) -> bool:
    """Nothing to do until `at`. Raises Stale when it was moved or asked to be otherwise while we looked."""
    rows = Reservation.objects.filter(
        pk=reservation.pk,
        claim_token=reservation.claim_token,
        state=reservation.state,
        wish=reservation.wish,
        end=reservation.end,
        restart_asked_at=reservation.restart_asked_at,
    )
    if not rows.update(look_at=min(at, reservation.end) if reservation.state != State.ENDING else at):
        raise Stale(f"reservation {reservation.pk} was moved")
    return False


def try_again(
    reservation: Reservation, reason: str, clock: Clock, *, failed: bool = True, renew_deadline: bool = False
) -> bool:
    """Say why it waits, and look again after 1, 2, 4 … 30 s, each a little off so that not all come at once.

    Not `failed` is waiting for something that is not its own: it counts as no attempt, and the pause stays short.
    """
    now = clock()
    seconds = min(2 ** min(reservation.attempts, 5), 30) if failed else 2
    changes: dict[str, object] = {
        "reason": reason[:400],
        "attempts": reservation.attempts + failed,
        "look_at": now + timedelta(seconds=seconds * random.uniform(0.8, 1.2)),
    }
    if renew_deadline and reservation.deadline and now >= reservation.deadline - timedelta(minutes=1):
        changes["deadline"] = now + timedelta(minutes=2)  # well before it passes: it is waited for on purpose
        logger.error("reservation %d is late (%s): %s", reservation.pk, reservation.state, reason)
    rows = Reservation.objects.filter(pk=reservation.pk, claim_token=reservation.claim_token, state=reservation.state)
    if not rows.update(**changes):
        raise Stale(f"reservation {reservation.pk} was moved")
    return False


def give_up(reservation: Reservation, why: str, clock: Clock, *, served_until: datetime | None = None) -> bool:
    """End it as failed: everything is taken down first, on the one way that everything is taken down."""
    actions.start_ending(
        reservation,
        text=why,
        by=PLATFORM,
        now=clock(),
        token=reservation.claim_token,
        served_until=served_until,
        failure=why[:400],
    )
    return True
