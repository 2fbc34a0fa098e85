"""What the commands about money take: workspaces, amounts, days and instants, as a person types them."""

from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.management.base import CommandError

from accounts.models import Workspace
from billing import months


def find_workspace(text: str) -> Workspace:
    """By its name (a user's name for the personal one), or by its number as #7."""
    rows = Workspace.objects.all()
    if text.startswith("#"):
        found = list(rows.filter(pk=int(text[1:]))) if text[1:].isascii() and text[1:].isdigit() else []
    else:
        found = list(rows.filter(name__iexact=text)[:20])
    if not found:
        raise CommandError(f"There is no workspace {text!r}.")
    if len(found) > 1:
        numbers = ", ".join(f"#{row.pk}" for row in found)
        raise CommandError(f"Several workspaces are called {text!r}; name one by its number: {numbers}.")
    return found[0]


def decimal(text: str) -> Decimal:
    """A number with a point, as argparse's `type`."""
    try:
        found = Decimal(text)
    except InvalidOperation:
        raise CommandError(f"{text!r} is not a number such as 12.50.") from None
    if not found.is_finite():
        raise CommandError(f"{text!r} is not a number such as 12.50.")
    return found


def day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{text!r} is not a day such as 2026-05-31.") from None


def instant(text: str) -> datetime:
    """A day is its begin in the installation's zone (BERTH_BILLING_TIME_ZONE), as is a time without one."""
    zone = ZoneInfo(settings.BERTH_BILLING_TIME_ZONE)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(
            f"{text!r} is neither a day such as 2026-05-31 nor a time such as 2026-05-31T12:00."
        ) from None
    if len(text) <= len("2026-05-31"):
        return months.begin(found.date(), zone)
    return found if found.tzinfo else found.replace(tzinfo=zone)
