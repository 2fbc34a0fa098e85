"""The health report: /monitor/reports/, and as a file to keep."""

from datetime import datetime

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_GET

from monitoring import report_files, report_periods, reports
from monitoring.views.guard import for_staff

USUAL = "7d"
SPANS = {"24h": "24 hours", "7d": "7 days", "4w": "4 weeks", "52w": "A year"}


@require_GET
@for_staff
def index(request: HttpRequest) -> HttpResponse:
    now = timezone.now()
    since, until = _asked(request)
    context: dict[str, object] = {"section": "reports", "spans": SPANS, "since": since, "until": until}
    context["formats"] = report_files.FORMATS
    context["days"] = {name: value if value[:2] == "20" else "" for name, value in (("since", since), ("until", until))}
    try:
        first, last = _period(since, until, now)
    except report_periods.NoSuchPeriod as problem:
        return render(request, "monitor/reports.html", context | {"problem": str(problem)}, status=400)
    found = reports.report(first, last, now)
    query = urlencode({"since": since, "until": until} if until else {"since": since})
    return render(request, "monitor/reports.html", context | report_files.context(found) | {"query": query})


@require_GET
@for_staff
def download(request: HttpRequest, kind: str) -> HttpResponse:
    """Raises Http404 for what is no period."""
    now = timezone.now()
    try:
        first, last = _period(*_asked(request), now)
    except report_periods.NoSuchPeriod:
        raise Http404 from None
    file = report_files.make(reports.report(first, last, now), kind)
    response = HttpResponse(file.text, content_type=f"{file.kind}; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{file.name}"'
    return response


def _asked(request: HttpRequest) -> tuple[str, str]:
    return request.GET.get("since") or USUAL, request.GET.get("until", "")


def _period(since: str, until: str, now: datetime) -> tuple[datetime, datetime]:
    return report_periods.period(since, until, now, timezone.get_current_timezone())


urlpatterns = [
    path("reports/", index, name="reports"),
    *(path(f"reports/report.{kind}", download, {"kind": kind}, name=f"report-{kind}") for kind in report_files.FORMATS),
]
