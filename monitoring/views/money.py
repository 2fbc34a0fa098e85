"""The page about money for staff who may see the ledger: /monitor/money/. Others are told that it does not exist."""

from datetime import date

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET

from billing import exports, months, revenue
from billing.forms import parse_month
from monitoring.views.guard import allowed_to

FIRST = date(2000, 1, 1)
for_accountants = allowed_to("billing.view_ledgerentry", hide=True)


@require_GET
@for_accountants
def index(request: HttpRequest) -> HttpResponse:
    today = timezone.localdate()
    month = _month(request.GET.get("month", ""), today.replace(day=1))
    found = revenue.revenue(month, today, settings.BERTH_CURRENCY)
    context = {
        "section": "money",
        "revenue": found,
        "previous": months.previous(month),
        "next": months.following(month) if month < today.replace(day=1) else None,
        "rest": max(found.workspace_count - revenue.MOST_ROWS, 0),
    }
    return render(request, "monitor/money.html", context)


@require_GET
@for_accountants
def revenue_csv(request: HttpRequest) -> HttpResponseBase:
    """Every month, or with ?month=2026-05 that one: a row for each workspace and service."""
    asked = request.GET.get("month", "")
    first = _month(asked, FIRST)
    last = first if asked else timezone.localdate()
    header = ["month", "workspace", "name", "service", "currency", "charged before tax"]
    rows = ((f"{row[0]:%Y-%m}", *row[1:]) for row in revenue.as_rows(first, last))
    name = f"revenue-{first:%Y-%m}.csv" if asked else "revenue.csv"
    return exports.download(name, exports.Table(header, rows))


def _month(text: str, usual: date) -> date:
    """Raises Http404 for what is no month."""
    try:
        return parse_month(text) if text else usual
    except ValueError:
        raise Http404 from None


urlpatterns = [path("money/", index, name="money"), path("money/revenue.csv", revenue_csv, name="revenue-csv")]
