"""The customer's bill so far."""

from datetime import date, datetime

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from accounts.models import User
from billing import statements


@login_required
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    user = request.user
    assert isinstance(user, User)  # noqa: S101 - login_required has seen to it
    now = timezone.now()
    month = _month(request.GET.get("month", "")) or timezone.localdate(now).replace(day=1)
    rows = statements.month(user, month, now)
    context = {
        "rows": rows,
        "total": statements.total(rows),
        "month": month,
        "months": statements.months(user, now),
    }
    return render(request, "billing/index.html", context)


def _month(text: str) -> date | None:
    """A month as 2026-05; anything else is none."""
    try:
        month = datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007 - a month has no zone
    except ValueError:
        return None
    return month if month.year < date.max.year else None  # the calendar must have a month after it
