"""How an invoice shows days, times and amounts: the same to every reader, in the zone and currency it was issued in."""

from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from django import template

from billing.models import InvoiceLine

register = template.Library()
MINUS = "\N{MINUS SIGN}"


@register.filter
def amount(value: Decimal | None, currency: str = "") -> str:
    """1,234.50 or, with a currency, 1,234.50 EUR. Below zero with a real minus sign."""
    if value is None:
        return "\N{EN DASH}"
    text = f"{MINUS if value < 0 else ''}{abs(value):,.2f}"
    return f"{text}\N{NO-BREAK SPACE}{currency}" if currency else text


@register.filter
def day(value: date) -> str:
    """31 May 2026, which means the same everywhere."""
    return f"{value.day} {value:%b %Y}"


@register.filter
def month(value: date) -> str:
    """May 2026, whatever language its reader has for other dates."""
    return f"{value:%B %Y}"


@register.filter
def served(line: InvoiceLine, zone: str) -> str:
    """From when to when something was served, in the invoice's zone: 3 May 2026, 10:00 – 12:30."""
    if line.served_from is None or line.served_until is None:
        return ""
    start, end = (at.astimezone(ZoneInfo(zone)) for at in (line.served_from, line.served_until))
    same_day = start.date() == end.date() and start.utcoffset() == end.utcoffset()
    return f"{_when(start)}\N{NO-BREAK SPACE}\N{EN DASH} {f'{end:%H:%M}' if same_day else _when(end)}"


def _when(at: datetime) -> str:
    """In one line, wherever the whole is broken."""
    return f"{day(at)}, {at:%H:%M}".replace(" ", "\N{NO-BREAK SPACE}")
