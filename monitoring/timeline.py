"""One time line of what happened to reservations and of what people and commands did: events and audit rows merged.

Newest first, in pages by key: a page is as quick at the end of a million rows as at the beginning. Text is looked for
row by row, so it is bounded: over the days that are asked for, and over the last 31 when none are.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from heapq import merge
from itertools import islice
from typing import Any

from django.db.models import Q, QuerySet
from django.urls import reverse

from accounts.models import AuditEntry
from compute.models import Node
from reservations.models import Container, Event

TEXT_WITHIN = timedelta(days=31)
AT_ONCE = 1000
EVENT, DEED = 0, 1
Key = tuple[datetime, int, int]  # when, which of the two tables, its id


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for; what is empty is not asked for."""

    text: str = ""
    who: str = ""
    action: str = ""
    target: str = ""
    reservation: int | None = None
    node: str = ""
    kind: str = ""  # transition, note or deed
    deeds: bool = True  # False: nothing of the audit log, whatever else is asked for
    since: datetime | None = None
    until: datetime | None = None

    def bounded(self, now: datetime) -> "Search":
        """With a beginning, where every row would have to be read otherwise."""
        reads_rows = self.text or self.who or self.node or self.action or self.target
        if not reads_rows or self.since or self.reservation:
            return self
        values = {name: getattr(self, name) for name in self.__slots__}
        return Search(**{**values, "since": (self.until or now) - TEXT_WITHIN})


@dataclass(frozen=True, slots=True)
class Happening:
    """One line."""

    at: datetime
    source: int
    pk: int
    kind: str
    who: str
    what: str
    detail: str
    target: str
    link: str

    @property
    def key(self) -> Key:
        return (self.at, self.source, self.pk)


def find(search: Search, *, before: Key | None = None) -> Iterator[Happening]:
    """Newest first, from the one before this key on; read in parts, so take what you need."""
    return merge(_events(search, before), _deeds(search, before), key=lambda row: row.key, reverse=True)


def page(search: Search, size: int, before: Key | None = None) -> list[Happening]:
    """At most so many. Three queries at most: a reader of pages wants a page, and not all there is."""
    events = islice(_events(search, before, size), size)
    deeds = islice(_deeds(search, before, size), size)
    return sorted([*events, *deeds], key=lambda row: row.key, reverse=True)[:size]


def _events(search: Search, before: Key | None, at_once: int = AT_ONCE) -> Iterator[Happening]:
    if search.kind == "deed" or search.action:
        return
    rows = _within(Event.objects.all(), search)
    if search.target:
        kind, _, number = search.target.partition(":")
        if kind != "reservation" or not number.isdecimal() or len(number) > 18:
            return
        rows = rows.filter(reservation=int(number))
    if search.kind:
        rows = rows.filter(new_state="") if search.kind == "note" else rows.exclude(new_state="")
    if search.text:
        rows = rows.filter(text__icontains=search.text)
    if search.who:
        rows = rows.filter(by__iexact=search.who)
    if search.reservation:
        rows = rows.filter(reservation=search.reservation)
    if search.node:
        rows = rows.filter(reservation__in=Container.objects.filter(node__name=search.node).values("reservation"))
    for row in _by_key(rows, EVENT, before, at_once):
        yield _of_event(row)


def _deeds(search: Search, before: Key | None, at_once: int = AT_ONCE) -> Iterator[Happening]:
    if not search.deeds or search.kind in {"transition", "note"}:
        return
    rows = _within(AuditEntry.objects.all(), search)
    if search.text:
        some = Q(action__icontains=search.text) | Q(target__icontains=search.text) | Q(data__icontains=search.text)
        rows = rows.filter(some)
    if search.who:
        rows = rows.filter(actor_name__iexact=search.who)
    if search.action:
        rows = rows.filter(action__istartswith=search.action)
    if search.target:
        rows = rows.filter(target=search.target)
    if search.reservation:
        rows = rows.filter(target=f"reservation:{search.reservation}")
    if search.node:
        numbers = list(Node.objects.filter(name=search.node).values_list("pk", flat=True))
        rows = rows.filter(target__in=[f"node:{number}" for number in numbers])
    for row in _by_key(rows, DEED, before, at_once):
        yield _of_deed(row)


def _within(rows: "QuerySet[Any]", search: Search) -> "QuerySet[Any]":
    if search.since:
        rows = rows.filter(at__gte=search.since)
    return rows.filter(at__lt=search.until) if search.until else rows


def _by_key(rows: "QuerySet[Any]", source: int, before: Key | None, at_once: int) -> Iterator[Any]:
    """In parts by key, each of them one query with the index of the time."""
    while True:
        part = list(_after(rows, source, before).order_by("-at", "-pk")[:at_once])
        yield from part
        if len(part) < at_once:
            return
        before = (part[-1].at, source, part[-1].pk)


def _after(rows: "QuerySet[Any]", source: int, before: Key | None) -> "QuerySet[Any]":
    if before is None:
        return rows
    at, of, pk = before
    at_once = {EVENT: Q(pk__lt=pk) if of == EVENT else Q(), DEED: Q(pk__lt=pk)}[source]
    if source == DEED and of == EVENT:
        return rows.filter(at__lt=at)  # at the same instant a deed comes before an event
    return rows.filter(at__lte=at).filter(Q(at__lt=at) | at_once if at_once else Q())


def _of_event(row: Event) -> Happening:
    number = row.reservation_id
    link = reverse("admin:reservations_reservation_change", args=[number])
    kind, detail = ("transition", f"{row.old_state or 'new'} → {row.new_state}") if row.new_state else ("note", "")
    return Happening(row.at, EVENT, row.pk, kind, row.by, row.text, detail, f"reservation:{number}", link)


LINKS = {
    "reservation": "admin:reservations_reservation_change",
    "gateway": "admin:compute_gateway_change",
    "node": "admin:compute_node_change",
    "storage": "admin:compute_storageserver_change",
    "user": "admin:accounts_user_change",
    "workspace": "admin:accounts_workspace_change",
}


def _of_deed(row: AuditEntry) -> Happening:
    kind, _, number = row.target.partition(":")
    is_row = kind in LINKS and number.isdecimal()
    link = reverse(LINKS[kind], args=[number]) if is_row else ""
    return Happening(row.at, DEED, row.pk, "deed", row.actor_name, row.action, detail_of(row.data), row.target, link)


def detail_of(data: Mapping[str, object]) -> str:
    """name: one, ended: 3"""
    words = (f"{name}: {value if isinstance(value, str) else json.dumps(value)}" for name, value in data.items())
    return ", ".join(words)
