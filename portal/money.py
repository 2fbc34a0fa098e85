"""The page about money for staff who may see the ledger: /monitor/money/. Others are told that it does not exist."""

from collections.abc import Callable
from datetime import date
from functools import wraps

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET

from billing import exports, months, revenue
from billing.forms import parse_month

View = Callable[[HttpRequest], HttpResponseBase]
FIRST = date(2000, 1, 1)


def for_staff(view: View) -> View:
    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        if not request.user.is_staff or not request.user.has_perm("billing.view_ledgerentry"):
            raise Http404
        return view(request)

    return guarded


@require_GET
@for_staff
def index(request: HttpRequest) -> HttpResponse:
    today = timezone.localdate()
    month = _month(request.GET.get("month", ""), today.replace(day=1))
    found = revenue.revenue(month, today, settings.BERTH_CURRENCY)
    context = {
        "revenue": found,
        "previous": months.previous(month),
        "next": months.following(month) if month < today.replace(day=1) else None,
        "rest": max(found.workspace_count - revenue.MOST_ROWS, 0),
    }
    return render(request, "monitor/money.html", context)


@require_GET
@for_staff
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
