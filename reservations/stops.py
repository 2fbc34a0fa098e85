"""When a reservation was stopped as it was wished: then that nothing ran is no fault, and charts do not say so."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from django.db.models import Q

from compute.readings import EVERY_S
from compute.series import Series
from reservations.models import Event
from reservations.states import State

# The state follows what is seen of the container: a reading or two around the change belong to either side of it.
AROUND = 2 * timedelta(seconds=EVERY_S)
WHOLE = 0.999  # of a step


def excused(found: Series, reservation_id: int) -> Series:
    """The readings with `stopped`, the share of each step, and with `running` as the share of the rest of the step.

    A step in which it was stopped all the time has no `running`, as one without a reading.
    """
    if not found.at:
        return found
    stopped = _shares(found, _spans(reservation_id, datetime.fromtimestamp(found.at[-1] + found.step_s, UTC)))
    running = [_of_the_rest(ran, share) for ran, share in zip(found.values["running"], stopped, strict=True)]
    return replace(found, values=found.values | {"running": running, "stopped": [*stopped]})


def _of_the_rest(ran: float | None, stopped: float) -> float | None:
    if ran is None or ran >= WHOLE or not stopped:
        return ran
    return None if stopped >= WHOLE else min(1.0, ran / (1 - stopped))


def _shares(found: Series, spans: list[tuple[datetime, datetime]]) -> list[float]:
    shares = [0.0] * len(found.at)
    for begin, end in spans:
        opens, closes = begin.timestamp(), end.timestamp()
        first = max(0, int(opens - found.at[0]) // found.step_s)
        for place in range(first, len(found.at)):
            at = found.at[place]
            if at >= closes:
                break
            inside = min(closes, at + found.step_s) - max(opens, at)
            shares[place] = min(1.0, shares[place] + max(0.0, inside) / found.step_s)
    return shares


def _spans(reservation_id: int, until: datetime) -> list[tuple[datetime, datetime]]:
    """From and until when it was stopped, before `until`."""
    moves = Event.objects.filter(Q(old_state=State.STOPPED) | Q(new_state=State.STOPPED), reservation=reservation_id)
    spans, begin = [], None
    for at, state in moves.filter(at__lt=until).order_by("at", "pk").values_list("at", "new_state"):
        if state == State.STOPPED:
            begin = at - AROUND
        elif begin:
            spans.append((begin, at + AROUND))
            begin = None
    return [*spans, (begin, until)] if begin else spans
