"""Whether what was charged is what was served: each reservation and each kept volume, month by month.

A month's charge is right when it is what the month adds to the sum, or when it makes up for what an earlier month was
charged too much, or when it was right as things stood when it was entered (the end of a node that was lost is noted
late). Whichever way, the whole must come to the same cent.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from billing import audit_rows
from billing.audit_rows import NOTHING, OVER, Booked, Books, Entry, Kept
from billing.models import Discount, Rate
from billing.recompute import (
    DAY,
    Deal,
    Month,
    Span,
    Thing,
    after,
    as_money,
    cut,
    deal,
    due_through,
    half_up,
    micros,
    month_at,
    month_begins,
    months_of,
    whole,
)

GRACE = timedelta(minutes=1)
ZONES_APART = 2 * DAY  # it may have been there after the month before ended, in the zone of that time


def usage_faults(books: Books, now: datetime) -> Iterator[str]:
    """A sentence for each difference between what was used and what was charged for it."""
    of_reservation: dict[int, list[Entry]] = defaultdict(list)
    corrections: dict[int, list[Entry]] = defaultdict(list)
    of_volume: dict[int, list[Entry]] = defaultdict(list)
    for entry in books.entries:
        if entry.kind == "charge" or entry.is_recount:
            if entry.reservation:
                of_reservation[entry.reservation].append(entry)
            elif entry.volume:
                of_volume[entry.volume].append(entry)
            else:
                yield f"entry {entry.id} charges {money(entry.amount, entry.currency)} for nothing that was used"
        elif entry.kind == "correction" and entry.reservation:
            corrections[entry.reservation].append(entry)
    for row in books.reservations:
        yield from _reservation(books, row, of_reservation.pop(row.id, []), corrections[row.id], now)
    for volume in books.volumes:
        yield from _volume(books, volume, of_volume.pop(volume.id, []))
    for what, strangers in (("reservation", of_reservation), ("volume", of_volume)):
        for number, entries in strangers.items():
            total = money(sum((entry.amount for entry in entries), NOTHING), entries[0].currency)
            yield f"{what} {number} is another workspace's, and {total} are charged here for it"


# ---- reservations ---------------------------------------------------------------------------------------------------


def _reservation(
    books: Books, row: Booked, entries: list[Entry], corrections: list[Entry], now: datetime
) -> Iterator[str]:
    name = f"reservation {row.id}"
    periods = books.served.get(row.id, [])
    if not periods and not entries:
        return
    net = sum((entry.amount for entry in [*entries, *corrections]), NOTHING)
    if net < 0:
        yield f"the corrections of {name} exceed its charges by {money(-net, (entries or corrections)[0].currency)}"
    try:
        holding = deal(row.terms)
    except (KeyError, ValueError, TypeError, ArithmeticError) as problem:
        yield f"the terms of {name} cannot be read: {problem!r}"
        return
    opens, closes = micros(row.start), micros(row.end)
    holding = replace(holding, window=(opens, closes))
    if any(begun < opens or (over or 0) > closes for begun, over in periods):
        yield f"{name} is noted to have served outside of what was booked"
    thing = Thing(whole(row.cores, 100), row.ram_mib, 0 if row.kept_volume else row.storage_gb)
    spans = audit_rows.spans_until(periods, min(micros(now), closes))
    due = due_through(spans, thing, holding, books.zone)
    charges = _by_month(entry for entry in entries if entry.kind == "charge")
    yield from _twice(name, charges)
    yield from _currencies(name, entries, holding.currency)
    if row.settled_at is None and row.state in OVER:
        if now - books.over_since.get(row.id, row.end) > GRACE:
            left = max(due.values(), default=NOTHING) - sum((entry.amount for entry in entries), NOTHING)
            if left > 0 or (left and net > 0):
                yield f"{name} is over, and {money(left, holding.currency)} of it are not charged"
        return
    found = list(_Months(books, row, thing, holding, spans, due, [*entries, *corrections]).faults(name, charges))
    yield from found
    if row.settled_at and not found and all(len(entries) == 1 for entries in charges.values()):
        total, charged = max(due.values(), default=NOTHING), sum((entry.amount for entry in entries), NOTHING)
        given_back = charged > total and net <= 0  # corrections took off what would have been recounted
        if total != charged and not given_back:
            difference = money(abs(charged - total), holding.currency)
            yield f"{name} is charged {difference} too {'much' if charged > total else 'little'} in all"


class _Months:
    """The charges of one reservation, against what its months add."""

    def __init__(
        self,
        books: Books,
        row: Booked,
        thing: Thing,
        holding: Deal,
        spans: list[Span],
        due: Mapping[Month, Decimal],
        entries: list[Entry],
    ) -> None:
        self.books, self.row, self.thing, self.holding = books, row, thing, holding
        self.spans, self.due, self.entries = spans, due, entries
        self._ran: list[tuple[datetime, datetime | None]] | None = None

    def faults(self, name: str, charges: Mapping[date, list[Entry]]) -> Iterator[str]:
        currency, closed = self.holding.currency, self.books.closed_through
        entered = NOTHING
        for day in sorted({date(*month, 1) for month in self.due} | charges.keys()):
            adds = self._through(self.due, day) - self._through(self.due, day, before=True)
            if day not in charges:
                expected = self.row.settled_at is not None or (closed is not None and day <= closed)
                lacks = self._through(self.due, day) - entered
                given_back = lacks < 0 and self._left() <= 0
                if expected and adds and lacks and not given_back and not self._began_elsewhere(day, entered):
                    yield f"{name} is not charged for {day:%B %Y}: {money(adds, currency)} were served"
                continue
            amount = sum((entry.amount for entry in charges[day]), NOTHING)
            if len(charges[day]) == 1 and amount != adds and not self._explained(charges[day][0], entered):
                if not adds:
                    yield f"{name} is charged {money(amount, currency)} for {day:%B %Y} without usage in it"
                else:
                    word = "much" if amount > adds else "little"
                    much = money(abs(amount - adds), currency)
                    yield f"{name} is charged {much} too {word} for {day:%B %Y} ({amount} instead of {adds})"
            entered += amount

    def _left(self, before: int | None = None) -> Decimal:
        """What charges and corrections come to, or came to before an entry: no more than that is ever given back."""
        return sum((entry.amount for entry in self.entries if before is None or entry.id < before), NOTHING)

    def _began_elsewhere(self, day: date, entered: Decimal) -> bool:
        """Whether nothing was missing at the month's end in another of its zones, and nothing is missing since."""
        dues = [due_through(self.spans, self.thing, self.holding, zone) for zone in self.books.zones]
        if all(self._through(due, day) != entered for due in dues):
            return False
        ours = [entry for entry in self.entries if entry.kind == "charge" or entry.is_recount]
        if self.row.settled_at is not None:
            return sum((entry.amount for entry in ours), NOTHING) >= max(self.due.values(), default=NOTHING)
        closed = self.books.closed_through or day
        until_then = sum((entry.amount for entry in ours if entry.month <= closed), NOTHING)
        return until_then >= min(self._through(due, closed) for due in dues)

    def _through(self, due: Mapping[Month, Decimal], day: date, *, before: bool = False) -> Decimal:
        """The sum until the month's end, or until its begin."""
        last = (day.year, day.month)
        return max(
            (cost for month, cost in due.items() if month < last or (month == last and not before)), default=NOTHING
        )

    def _explained(self, entry: Entry, entered: Decimal) -> bool:
        """Whether it is what was missing to the sum, as that is known today or was known then, in any of its zones."""
        for zone in self.books.zones:
            for spans in (self.spans, self._as_known(entry.at)):
                due = due_through(spans, self.thing, self.holding, zone)
                through = self._through(due, entry.month)
                lacks = max(through - entered, -max(self._left(entry.id), NOTHING))
                if entry.amount in {through - entered, lacks, through - self._through(due, entry.month, before=True)}:
                    return True
        return False

    def _as_known(self, then: datetime) -> list[Span]:
        """What was served as it looked then: who was still taken to run reaches until then."""
        if self._ran is None:
            self._ran = audit_rows.ran(self.row.id)
        closed = dict(self.spans)
        found = []
        for opens, closes in self._ran:
            if opens <= then:
                still = closes is None or closes > then
                stop = micros(min(then, self.row.end)) if still else closed.get(micros(opens), 0)
                found.append((micros(opens), stop))
        return found


# ---- kept volumes ---------------------------------------------------------------------------------------------------


def _volume(books: Books, volume: Kept, entries: list[Entry]) -> Iterator[str]:
    name = f"kept volume {volume.id} ({volume.name})"
    charges = _by_month(entries)
    yield from _twice(name, charges)
    wanted = set(_closed_months(books, volume))
    charged_until = micros(volume.since) if volume.since else None
    for day in sorted(wanted | charges.keys()):
        there = charges.get(day, [])
        currency = there[0].currency if there else books.currency
        right = [_stored(books, volume, day, zone, charged_until, currency) for zone in books.zones]
        charged_until = _charged_until(there, charged_until)
        amount = sum((entry.amount for entry in there), NOTHING)
        if amount in right or len(there) > 1:
            continue
        if not amount:
            yield f"{name} is not charged for {day:%B %Y}: {money(right[0], currency)} are due"
            charged_until = month_begins(after((day.year, day.month)), books.zone)  # said once
        elif not right[0]:
            yield f"{name} is charged {money(amount, currency)} for {day:%B %Y}, in which it cost nothing"
        else:
            word, much = "much" if amount > right[0] else "little", money(abs(amount - right[0]), currency)
            yield f"{name} is charged {much} too {word} for {day:%B %Y} ({amount} instead of {right[0]})"


def _closed_months(books: Books, volume: Kept) -> Iterator[date]:
    if volume.since is None or books.closed_through is None:
        return
    month = month_at(micros(volume.since), books.zone)
    while date(*month, 1) <= books.closed_through:
        if volume.deleted_at is None or month_begins(month, books.zone) - ZONES_APART < micros(volume.deleted_at):
            yield date(*month, 1)
        month = after(month)


def _charged_until(there: list[Entry], before: int | None) -> int | None:
    """Where the last charge ended for this volume, in the zone of its time; months without one cost nothing."""
    ends = [micros(datetime.fromisoformat(entry.until)) for entry in there if entry.until]
    return max(ends, default=before)


def _stored(books: Books, volume: Kept, day: date, zone: str, opens: int | None, currency: str) -> Decimal:
    """What keeping it costs until a month's end: each price for the part of a month that it holds."""
    ends = month_begins(after((day.year, day.month)), zone)
    closes = min(ends, micros(volume.deleted_at) if volume.deleted_at else ends)
    if opens is None or closes <= opens:
        return NOTHING
    begins = [month_begins(month, zone) for month in months_of([(opens, closes)], zone)]
    rates = [rate for rate in books.rates if rate.currency == currency]
    dated: list[Rate | Discount] = [*rates, *books.discounts]
    edges = sorted({*begins, *(micros(edge) for row in dated for edge in _edges(row) if edge)})
    cents = Fraction(0)
    for start, stop in cut([(opens, closes)], edges):
        rate = next((row for row in rates if _holds(row, start)), None)
        discount = next((row for row in books.discounts if _holds(row, start)), None)
        if rate is None:
            continue
        pays = 10_000 - (whole(discount.percent, 100) if discount else 0)
        price = volume.size_gb * whole(rate.per_gb_month, 10**8) * pays * 100
        month = month_at(start, zone)
        length = month_begins(after(month), zone) - month_begins(month, zone)
        cents += Fraction((stop - start) * price, length * 10**12)
    return as_money(half_up(cents.numerator, cents.denominator))


def _edges(row: Rate | Discount) -> Sequence[datetime | None]:
    return row.during.lower, row.during.upper


def _holds(row: Rate | Discount, instant: int) -> bool:
    lower, upper = _edges(row)
    return lower is not None and micros(lower) <= instant and (upper is None or instant < micros(upper))


# ---- both -----------------------------------------------------------------------------------------------------------


def _by_month(entries: Iterator[Entry] | list[Entry]) -> dict[date, list[Entry]]:
    found: dict[date, list[Entry]] = defaultdict(list)
    for entry in entries:
        found[entry.month].append(entry)
    return dict(found)


def _twice(name: str, charges: Mapping[date, list[Entry]]) -> Iterator[str]:
    for day, entries in charges.items():
        if len(entries) > 1:
            numbers = " and ".join(str(entry.id) for entry in entries)
            yield f"{name} is charged {len(entries)} times for {day:%B %Y}, by the entries {numbers}"


def _currencies(name: str, entries: list[Entry], currency: str) -> Iterator[str]:
    for entry in entries:
        if entry.currency != currency:
            yield f"{name} was booked in {currency}, and entry {entry.id} charges it in {entry.currency}"


def money(amount: Decimal, currency: str) -> str:
    return f"{amount} {currency}"
