"""One deed on many reservations: what it would do to each, and then each by itself.

One that cannot be done harms no other one: each has a transaction of its own and its own sentence.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType

from accounts.models import User
from compute.capacity import NoCapacity
from reservations import actions, extending, extensions, restarting
from reservations.amounts import money
from reservations.models import Reservation, StorageProfile
from reservations.states import State
from reservations.transitions import Stale

logger = logging.getLogger(__name__)
MOST = 50  # at once: somebody reads what happens to each
NOT_DONE = (
    actions.InvalidBooking,
    actions.OverQuota,
    actions.CannotAfford,
    NoCapacity,
    extending.CannotExtend,
    restarting.CannotRestart,
)
FAULT = "Something went wrong on our side; it was logged, and nothing was changed."


class Deed(StrEnum):
    EXTEND = "extend"
    STOP = "stop"
    START = "start"
    RESTART = "restart"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a deed would do to one reservation; not `does`: nothing, and the sentence says why."""

    reservation: Reservation
    does: bool
    sentence: str
    until: datetime | None = None  # the new end, or the latest that it could have


def plan(deed: Deed, reservation: Reservation, *, length: timedelta, now: datetime) -> Plan:
    """What would happen now; `length` is by how much it would be extended."""
    if not reservation.is_live or reservation.state == State.ENDING:
        return Plan(reservation, False, "It is over already.")
    if deed == Deed.EXTEND:
        return _extension(reservation, length, now)
    does, sentence = _OTHERS[deed](reservation)
    return Plan(reservation, does, sentence)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether it was done; if not, the sentence says why."""

    reservation: Reservation
    done: bool
    sentence: str = ""


def carry_out(
    deed: Deed,
    reservations: Iterable[Reservation],
    *,
    length: timedelta,
    by: User,
    now: datetime,
    seen_ends: Mapping[int, datetime] = MappingProxyType({}),
) -> list[Outcome]:
    """Do it to each in its own transaction. Whoever may act on them, the caller has seen to.

    `seen_ends` are the ends, by the number of the reservation, that somebody chose the length from: one that ends at
    another time by now is not extended, so that the same page sent twice adds it once.
    """
    return [_carry_out(deed, row, length, by, now, seen_ends.get(row.pk)) for row in reservations]


def _carry_out(
    deed: Deed, reservation: Reservation, length: timedelta, by: User, now: datetime, seen_end: datetime | None
) -> Outcome:
    if deed not in {Deed.EXTEND, Deed.DELETE}:
        planned = plan(deed, reservation, length=length, now=now)
        if not planned.does:
            return Outcome(reservation, False, planned.sentence)
    try:
        if deed == Deed.EXTEND:
            extending.extend(reservation=reservation, length=length, by=by, now=now, seen_end=seen_end)
        elif deed == Deed.RESTART:
            restarting.restart(reservation=reservation, by=by, now=now)
        elif deed == Deed.DELETE:
            if not actions.end(reservation=reservation, text=f"Deleted by {by.username}.", by=by, now=now):
                return Outcome(reservation, False, "It is over already.")
        else:
            wish = Reservation.Wish.STOP if deed == Deed.STOP else Reservation.Wish.RUN
            if not actions.wish(reservation=reservation, wish=wish, by=by, now=now):
                return Outcome(reservation, False, "It is over already.")
    except NOT_DONE as problem:
        return Outcome(reservation, False, str(problem))
    except Stale:
        return Outcome(reservation, False, "It is moving just now; try it again.")
    except Exception:  # a fault of ours with one of them keeps no other one from what was asked for
        logger.exception("reservation %d: %s failed", reservation.pk, deed)
        return Outcome(reservation, False, FAULT)
    return Outcome(reservation, True)


def _extension(row: Reservation, length: timedelta, now: datetime) -> Plan:
    offers = extensions.offers(row, now)
    if found := offers.lasting(length):
        return Plan(row, True, f"It costs {money(found.more)} more and ends", found.end)
    if offers.latest > row.end:
        return Plan(row, False, f"{offers.why} It could be extended at most until", offers.latest)
    return Plan(row, False, offers.why)


def _stop(row: Reservation) -> tuple[bool, str]:
    if row.wish == Reservation.Wish.STOP:
        return False, "It is stopped already, or being stopped."
    if row.state not in {State.RUNNING, State.STARTING}:
        return False, f"It does not run: {row.state_sentence}"
    return True, "It is stopped, and its connections are cut. Its place and its data are kept, and it costs nothing."


def _start(row: Reservation) -> tuple[bool, str]:
    if row.state == State.STOPPED or row.wish == Reservation.Wish.STOP:
        return True, "It is started again at its place and its address."
    return False, f"It is not stopped: {row.state_sentence}"


def _restart(row: Reservation) -> tuple[bool, str]:
    if row.state != State.RUNNING or row.wish == Reservation.Wish.STOP:
        return False, f"It does not run: {row.state_sentence}"
    return True, "It is stopped and started again, and its connections are cut. Its address and its data stay."


def _delete(row: Reservation) -> tuple[bool, str]:
    if row.state in {State.BOOKED, State.OFFERED}:
        return True, "It is cancelled, and its place becomes free."
    if row.storage == StorageProfile.Code.C3:
        return True, "It is stopped and removed, and its address is closed. Its volume is kept."
    return True, "It is stopped and removed with its data, which cannot be restored. Its address is closed."


_OTHERS = {Deed.STOP: _stop, Deed.START: _start, Deed.RESTART: _restart, Deed.DELETE: _delete}
