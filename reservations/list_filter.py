"""What of a list of reservations is asked for, from a query string that anybody may have typed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from urllib.parse import parse_qsl, urlencode

from django.db.models import Count, Q
from django.http import QueryDict
from django.utils import timezone

from accounts.models import User, Workspace
from reservations.calendar_layout import midnight
from reservations.models import Reservation, ReservationQuerySet, Service
from reservations.states import FINAL, State
from reservations.time_field import FIRST_YEAR, LAST_YEAR

TABS = {"now": "Now", "upcoming": "Upcoming", "past": "Past"}
SORTS = {
    "newest": ("Newest first", ("-created_at", "-pk")),
    "end": ("Ends first", ("end", "pk")),
    "latest": ("Ends last", ("-end", "-pk")),
    "start": ("Starts first", ("start", "pk")),
    "name": ("By name", ("name", "service__name", "pk")),
    "dearest": ("Dearest first", ("-price", "-pk")),
}
USUAL_SORT = {"now": "newest", "upcoming": "start", "past": "newest"}
LONGEST_SEARCH = 100
LONGEST_QUERY = 4000
ASKED = (
    "show",
    "q",
    "state",
    "service",
    "workspace",
    "whose",
    "from",
    "until",
    "sort",
    "page",
)  # of a list, in its address
BIGGEST_NUMBER = 2**63 - 1  # a number of the database's


@dataclass(frozen=True, slots=True)
class AskedDay:
    """A day as somebody typed it: what is none is shown again, with a sentence that says so, and not asked for."""

    typed: str = ""
    day: date | None = None
    problem: str = ""

    @classmethod
    def of(cls, text: str) -> "AskedDay":
        typed = _word(text)
        if not typed:
            return cls()
        try:
            day = datetime.strptime(typed, "%Y-%m-%d").date()  # noqa: DTZ007 - of the calendar; its zone comes later
        except ValueError:
            return cls(typed, None, "Type a day such as 2026-05-04; it was left out.")
        if not FIRST_YEAR <= day.year <= LAST_YEAR:
            return cls(typed, None, f"Type a year between {FIRST_YEAR} and {LAST_YEAR}; it was left out.")
        return cls(typed, day)

    def begin(self, *, days: int = 0) -> datetime | None:
        """Its first instant, or that of the day so many days later, in the reader's zone."""
        zone = timezone.get_current_timezone()
        return None if self.day is None else midnight(self.day + timedelta(days=days), zone)


@dataclass(frozen=True, slots=True)
class ListFilter:
    """What somebody asked for; whatever is not known counts as not asked for."""

    tab: str = "now"
    state: str = ""
    service: str = ""
    workspace: int | None = None
    mine: bool = False
    search: str = ""
    since: AskedDay = AskedDay()
    until: AskedDay = AskedDay()
    sort: str = "newest"

    @classmethod
    def of(cls, query: QueryDict) -> "ListFilter":
        tab = query.get("show", "")
        tab = tab if tab in TABS else "now"
        state, sort, workspace = query.get("state", ""), query.get("sort", ""), query.get("workspace", "")
        since, until = AskedDay.of(query.get("from", "")), AskedDay.of(query.get("until", ""))
        if since.day and until.day and until.day < since.day:
            until = AskedDay(until.typed, None, "The last day is before the first; it was left out.")
        return cls(
            tab=tab,
            state=state if state in set(State) else "",
            service=_word(query.get("service", "")),
            workspace=number(workspace),
            mine=query.get("whose") == "mine",
            search=_word(query.get("q", "")),
            since=since,
            until=until,
            sort=sort if sort in SORTS else USUAL_SORT[tab],
        )

    @property
    def narrows(self) -> bool:
        """Whether something may be hidden by it."""
        days = self.since.day or self.until.day
        return bool(self.state or self.service or self.workspace is not None or self.mine or self.search or days)

    @property
    def changed(self) -> bool:
        """Whether anything is not as usual."""
        typed = self.since.typed or self.until.typed
        return bool(self.narrows or typed or self.sort != USUAL_SORT[self.tab])

    def rows(self, user: User) -> ReservationQuerySet:
        """All tabs' together, without an order."""
        found = Reservation.objects.visible_to(user).order_by()
        found = found.overlapping(self.since.begin(), self.until.begin(days=1))
        if self.state:
            found = found.filter(state=self.state)
        if self.service:
            found = found.filter(service__slug=self.service)
        if self.workspace is not None:
            found = found.filter(workspace=self.workspace)
        if self.mine:
            found = found.filter(created_by=user)
        if self.search:
            matches = Q(name__icontains=self.search) | Q(service__name__icontains=self.search)
            by_number = number(self.search.removeprefix("#"))
            if by_number is not None:
                matches |= Q(pk=by_number)
            found = found.filter(matches)
        return found

    def ordered(self, rows: ReservationQuerySet, now: datetime) -> ReservationQuerySet:
        """Those of the tab, in the order that was asked for."""
        return rows.filter(of_tab(self.tab, now)).order_by(*SORTS[self.sort][1])


def of_tab(tab: str, now: datetime) -> Q:
    """What belongs to it: over, still to come, or what is there now, be it late in starting."""
    if tab == "past":
        return Q(state__in=FINAL)
    to_come = Q(state__in=[State.BOOKED, State.OFFERED], start__gt=now)
    return to_come if tab == "upcoming" else ~to_come & ~Q(state__in=FINAL)


def counts(rows: ReservationQuerySet, now: datetime) -> Mapping[str, int]:
    """How many each tab has, in one query."""
    return rows.aggregate(**{tab: Count("pk", filter=of_tab(tab, now)) for tab in TABS})


def query_of(asked: Mapping[str, str]) -> str:
    """What of a query string says which list it is, as one that leads back to it."""
    return urlencode({name: asked[name][:LONGEST_SEARCH] for name in ASKED if asked.get(name)})


def query_back(text: str) -> str:
    """The same from a text that a form carried along, and that anybody may have written."""
    return query_of(dict(parse_qsl(text[:LONGEST_QUERY])))


def services() -> list[Service]:
    return list(Service.objects.order_by("name").only("slug", "name"))


def workspaces(user: User) -> list[Workspace]:
    return list(Workspace.objects.of(user).order_by("name"))


def _word(text: str) -> str:
    """What can be looked for: PostgreSQL knows no text with a NUL in it."""
    return text.replace("\0", "").strip()[:LONGEST_SEARCH]


def number(text: str) -> int | None:
    """A number that a row may have; None for everything else that can be typed."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        return None
    return int(text) if int(text) <= BIGGEST_NUMBER else None
