"""What happened, and who did what: /monitor/events/, with search, and as CSV.

Deeds are the audit log, with what people paid and their addresses: they are for who may view its entries.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.http import HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET

from billing import exports
from monitoring import timeline
from monitoring.timeline import Key, Search
from monitoring.views.guard import for_staff

PER_PAGE = 50
MOST_IN_CSV = 100_000
KINDS = [("", "everything"), ("transition", "transitions"), ("note", "notes"), ("deed", "deeds (audit)")]
SEE_DEEDS = "accounts.view_auditentry"
_DAY = forms.DateInput(attrs={"type": "date"})
_FIRST, _LAST = date(2000, 1, 1), date(2999, 1, 1)


class SearchForm(forms.Form):
    """What is looked for. Days are whole ones of the reader's zone. Without `deeds` there are none to be found."""

    q = forms.CharField(label="Text", required=False, max_length=100)
    who = forms.CharField(label="By (whole name)", required=False, max_length=80)
    action = forms.CharField(label="Action begins with", required=False, max_length=60)
    target = forms.CharField(label="Target (as node:3)", required=False, max_length=120)
    reservation = forms.IntegerField(label="Reservation", required=False, min_value=1, max_value=2**63 - 1)
    node = forms.CharField(label="Node", required=False, max_length=63)
    kind = forms.ChoiceField(label="Kind", required=False, choices=KINDS)
    since = forms.DateField(label="From", required=False, widget=_DAY)
    until = forms.DateField(label="To", required=False, widget=_DAY)

    def __init__(self, asked: QueryDict, *, deeds: bool) -> None:
        super().__init__(asked)
        self.deeds = deeds
        if not deeds:
            self.fields["kind"] = forms.ChoiceField(label="Kind", required=False, choices=KINDS[:-1])

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        since, until = values.get("since"), values.get("until")
        for name, day in (("since", since), ("until", until)):
            if day and not _FIRST <= day <= _LAST:
                self.add_error(name, "Choose a day between 2000 and 2998.")
        if since and until and until < since:
            self.add_error("until", "The last day is before the first.")
        return values

    def search(self, now: datetime) -> Search:
        values = self.cleaned_data
        return Search(
            text=values["q"],
            who=values["who"],
            action=values["action"],
            target=values["target"],
            reservation=values["reservation"],
            node=values["node"],
            kind=values["kind"],
            deeds=self.deeds,
            since=_midnight(values["since"]),
            until=_midnight(values["until"], days=1),
        ).bounded(now)


def _midnight(day: date | None, days: int = 0) -> datetime | None:
    return timezone.make_aware(datetime.combine(day + timedelta(days=days), time.min)) if day else None


@require_GET
@for_staff
def index(request: HttpRequest) -> HttpResponse:
    form = _form(request)
    context: dict[str, Any] = {"section": "events", "form": form, "rows": []}
    if not form.is_valid():
        return render(request, "monitor/events.html", context, status=400)
    search = form.search(timezone.now())
    rows = timeline.page(search, PER_PAGE + 1, _key_of(request.GET.get("before", "")))
    asked = {name: value for name, value in request.GET.items() if value and name in form.fields}
    context |= {
        "rows": rows[:PER_PAGE],
        "older": urlencode(asked | {"before": _text_of(rows[PER_PAGE - 1].key)}) if len(rows) > PER_PAGE else "",
        "newest": urlencode(asked) if request.GET.get("before") else None,
        "asked": urlencode(asked),
        "since": search.since if not form.cleaned_data["since"] else None,
    }
    return render(request, "monitor/events.html", context)


@require_GET
@for_staff
def as_csv(request: HttpRequest) -> HttpResponseBase:
    form = _form(request)
    if not form.is_valid():
        return render(request, "monitor/events.html", {"section": "events", "form": form, "rows": []}, status=400)
    header = ["at (UTC)", "kind", "by", "what", "detail", "target"]
    found = islice(timeline.find(form.search(timezone.now())), MOST_IN_CSV)
    return exports.download("events.csv", exports.Table(header, _lines(found)))


def _form(request: HttpRequest) -> SearchForm:
    return SearchForm(request.GET, deeds=request.user.has_perm(SEE_DEEDS))


def _lines(found: Iterator[timeline.Happening]) -> Iterator[tuple[exports.Value, ...]]:
    for row in found:
        yield row.at, row.kind, row.who, row.what, row.detail, row.target


def _text_of(key: Key) -> str:
    at, source, pk = key
    return f"{int((at - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))}-{source}-{pk}"


def _key_of(text: str) -> Key | None:
    """None for what is no key: the page then begins at the newest."""
    parts = text.split("-")
    if len(parts) != 3 or not all(part.isdecimal() and len(part) <= 18 for part in parts):
        return None
    at, source, pk = (int(part) for part in parts)
    if source not in {timeline.EVENT, timeline.DEED} or at > 32_000_000_000_000_000:
        return None
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at), source, pk


urlpatterns = [path("events/", index, name="events"), path("events.csv", as_csv, name="events-csv")]
