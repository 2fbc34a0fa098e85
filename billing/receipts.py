"""The receipt of one reservation: when it served and for how much, when it did not and why, and what was charged."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from billing import pricing, usage
from billing.models import LedgerEntry
from billing.pricing import NOTHING, Cost, Price, Rounding, Size, Terms
from reservations.models import Event, Reservation
from reservations.states import State

SHORTEST = timedelta(seconds=1)
WAITED = "Waiting for its place"
STARTING = "Starting"
STARTING_AGAIN = "Starting again after it was stopped"
OUTAGE = "Interrupted: our outage"
STOPPED = "Stopped by you"
LATE = "After its end"
ENDING = "Being taken down"
RELEASED = "Released early"
FAILED = "Could not be kept running"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of the booking: served for `amount`, or free for a reason. `until` None: it still goes on."""

    start: datetime
    until: datetime | None
    length: timedelta
    amount: Decimal | None
    hours: int = 0  # that began in it
    reason: str = ""
    note: str = ""

    @property
    def is_served(self) -> bool:
        return self.amount is not None


@dataclass(frozen=True, slots=True)
class Holding:
    """A price and from when on it held for this booking; `since` None is from its beginning."""

    since: datetime | None
    price: Price


@dataclass(frozen=True, slots=True)
class Receipt:
    reservation: Reservation
    spans: Sequence[Span]
    cost: Cost
    size: Size
    terms: Terms
    entries: Sequence[LedgerEntry]
    is_final: bool

    @property
    def holdings(self) -> list[Holding]:
        first, *others = self.terms.prices
        return [Holding(None, first), *(Holding(price.since, price) for price in others)]

    @property
    def per_second(self) -> bool:
        return self.terms.rounding == Rounding.SECOND

    @property
    def shown(self) -> list[Span]:
        """What is worth a line: a start that took a part of a second is not."""
        return [span for span in self.spans if span.is_served or span.length >= SHORTEST]

    @property
    def served_spans(self) -> int:
        return sum(span.is_served for span in self.spans)

    @property
    def not_served(self) -> timedelta:
        return sum((span.length for span in self.spans if not span.is_served), timedelta(0))

    @property
    def saved(self) -> Decimal:
        """What the quote was more than it cost."""
        return Decimal(self.reservation.price) - self.cost.amount

    @property
    def charged(self) -> Decimal:
        return sum((entry.amount for entry in self.entries), NOTHING)

    @property
    def corrected(self) -> Decimal:
        """What corrections took off, or added."""
        return sum((entry.amount for entry in self.entries if entry.corrects_id), NOTHING)

    @property
    def uncharged(self) -> Decimal:
        """What was served and is not in the ledger yet."""
        return self.cost.amount - self.charged + self.corrected if self.reservation.settled_at is None else NOTHING


def receipt(reservation: Reservation, now: datetime) -> Receipt:
    """As it is at `now`; from a row that usage.with_usage() has fetched."""
    size, terms = usage.size_of(reservation), usage.terms_of(reservation)
    usage_entries = LedgerEntry.objects.filter(reservation=reservation, kind__in=LedgerEntry.USAGE)
    entries = usage_entries.select_related("line__invoice", "corrects").order_by("at", "pk")
    return Receipt(
        reservation,
        list(spans(reservation, list(reservation.events.all()), now)),
        usage.cost_of(reservation, now),
        size,
        terms,
        list(entries),
        reservation.state in usage.OVER,
    )


def spans(reservation: Reservation, events: Sequence[Event], now: datetime) -> Iterator[Span]:
    """The booking's time without a gap, oldest first: what was served between what was not.

    What was served is in the usage periods alone; the events say why the rest was not.
    """
    served = usage.served(reservation, now)
    steps = [event for event in events if event.new_state]
    over = reservation.ended_at
    begin = min(reservation.start, served[0][0]) if served else reservation.start
    stop = max(reservation.end, over) if over else max(now, begin)
    inside = {event.at for event in steps if begin < event.at < stop}
    edges = {begin, stop, *inside, *(edge for interval in served for edge in interval)}
    if begin < reservation.end < stop:
        edges.add(reservation.end)
    yield from _merged(_Piecewise(reservation, steps, served, now), sorted(edges))


@dataclass(frozen=True, slots=True)
class _Piecewise:
    """What is true of a piece between two edges."""

    reservation: Reservation
    steps: Sequence[Event]
    served: Sequence[pricing.Interval]
    now: datetime

    def interval(self, start: datetime) -> pricing.Interval | None:
        """The served interval that it lies in."""
        return next((found for found in self.served if found[0] <= start < found[1]), None)

    def why(self, start: datetime) -> tuple[str, str]:
        """Why it was not served, and what the history says of it."""
        known = [event for event in self.steps if event.at <= start]
        last = known[-1] if known else None
        state = State(last.new_state) if last else State.BOOKED
        before = State(last.old_state) if last and last.old_state else None
        text = last.text if last else ""
        if state == State.ENDING:
            return ENDING, ""
        if state == State.FAILED:
            return FAILED, text
        if state == State.ENDED:
            return RELEASED, self._ended_by()
        if state == State.STOPPED:
            return STOPPED, ""
        if start >= self.reservation.end:
            return LATE, ""
        if state == State.RUNNING:
            return OUTAGE, self._next_text(start)
        if state == State.STARTING:
            if before == State.RUNNING:
                return OUTAGE, text
            return (STARTING_AGAIN, "") if before == State.STOPPED else (STARTING, "")
        return WAITED, ""

    def _next_text(self, start: datetime) -> str:
        """It was last seen to serve before the step that found it out."""
        return next((event.text for event in self.steps if event.at > start), "")

    def _ended_by(self) -> str:
        return next((event.text for event in reversed(self.steps) if event.new_state == State.ENDING), "")


def _merged(pieces: _Piecewise, edges: Sequence[datetime]) -> Iterator[Span]:
    """One span for what belongs together: pieces of one served interval, or of one reason."""
    size, terms = usage.size_of(pieces.reservation), usage.terms_of(pieces.reservation)
    going_on = pieces.reservation.ended_at is None
    found: list[tuple[datetime, datetime, pricing.Interval | None, tuple[str, str]]] = []
    for start, end in pairwise(edges):
        interval = pieces.interval(start)
        why = ("", "") if interval else pieces.why(start)
        if found and found[-1][2:] == (interval, why):
            found[-1] = (found[-1][0], end, interval, why)
        else:
            found.append((start, end, interval, why))
    before = Cost()
    for number, (start, end, interval, (reason, note)) in enumerate(found):
        until = None if going_on and number == len(found) - 1 and end >= pieces.now else end
        if interval is None:
            yield Span(start, until, end - start, None, reason=reason, note=note)
            continue
        cost = pricing.cost(pieces.served, size, terms, end)
        part, before = cost - before, cost
        yield Span(start, until, end - start, part.amount, part.started_hours)
