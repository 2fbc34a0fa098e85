"""Template tags that every page uses: icons, times, amounts, states and form fields."""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache

from django import template
from django.conf import settings
from django.forms import BoundField, CheckboxInput, CheckboxSelectMultiple, RadioSelect, Select
from django.template.defaultfilters import date as django_date
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe

from accounts import dates
from accounts.dates import zone_name
from portal import tracing
from reservations import amounts

register = template.Library()

NOTHING = SafeString("\N{EN DASH}")
ICON_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
TONES = {
    "offered": "purple",
    "booked": "blue",
    "starting": "amber",
    "running": "green",
    "stopped": "grey",
    "ending": "amber",
    "ended": "grey",
    "failed": "red",
    # nodes, gateways, services
    "active": "green",
    "cordoned": "amber",
    "draining": "amber",
    "ok": "green",
    "unknown": "amber",
    "lost": "red",
    "returning": "amber",
    "available": "green",
    "missing": "grey",
    "drift": "red",
    # containers, as their engines say it
    "created": "amber",
    "exited": "red",
    "dead": "red",
    "paused": "amber",
    "restarting": "amber",
    "removing": "amber",
    "gone": "grey",
    "healthy": "green",
    "unhealthy": "red",
}
MOVING = {"starting", "ending", "draining", "returning"}


# ---- icons ------------------------------------------------------------------------------------------------
@register.simple_tag
def icon(name: str, css_class: str = "") -> SafeString:
    """A Tabler icon inline. Raises ValueError for a name that Tabler does not have."""
    return format_html(
        '<svg class="icon {}" viewBox="0 0 24 24" width="24" height="24" fill="none" stroke="currentColor"'
        ' stroke-width="2" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true"'
        ' focusable="false">{}</svg>',
        css_class,
        _icon_paths(name),
    )


@register.simple_tag
def service_icon(name: str, css_class: str = "") -> SafeString:
    """The icon of a catalogue entry: a name that an admin mistyped shows a box, not an error page."""
    try:
        return icon(name, css_class)
    except ValueError:
        return icon("box", css_class)


@cache
def _icon_paths(name: str) -> SafeString:
    file = settings.ICONS_DIR / "outline" / f"{name}.svg"
    if not ICON_NAME.fullmatch(name) or not file.is_file():
        raise ValueError(f"Tabler has no outline icon named {name!r}")
    _, _, inner = file.read_text(encoding="utf-8").partition("<svg")
    _, _, inner = inner.partition(">")
    paths = inner.partition("</svg>")[0]
    return mark_safe(re.sub(r"\s*\n\s*", "", paths))  # noqa: S308  # a file of the icon package


# ---- times ------------------------------------------------------------------------------------------------
@register.filter
def when(at: datetime | None, style: str = "full") -> SafeString:
    """A time in the reader's zone and language: 20 Nov 2026, 14:05 CET; short (no year); exact (to the second)."""
    if at is None:
        return NOTHING
    local = timezone.localtime(at)
    language = dates.current_language()
    return format_html(
        '<time datetime="{}" title="{}"{}>{} {}</time>',
        local.isoformat(timespec="seconds"),
        f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        format_html(' lang="{}" dir="auto"', language.replace("_", "-")) if language else "",
        dates.written(local, style, language),
        zone_name(local),
    )


# Formats of Django's filter that stand in the templates, in the words of accounts.dates.
DAYS = {
    "j M Y": "day",
    "j F Y": "long day",
    "j M": "day of year",
    "j F": "long day of year",
    "F Y": "month",
    "F": "month name",
}


@register.filter(name="date", expects_localtime=True, is_safe=False)
def date_in_language(value: date | str | None, style: str | None = None) -> str:
    """As Django's own, but who chose a language reads days and months in it; other formats stay as they are."""
    if not dates.current_language() or style not in DAYS or not isinstance(value, date):
        return str(django_date(value, style))
    return dates.written(value, DAYS[style])


@register.simple_tag
def request_id() -> str:
    """The id of this request, by which its lines in the log are found."""
    return tracing.request_id()


@register.filter
def clock_time(at: datetime) -> str:
    """The time of day in the reader's zone: 14:05."""
    return f"{timezone.localtime(at):%H:%M}"


@register.simple_tag
def zone() -> str:
    """The reader's zone, for a label: Europe/Paris (CET)."""
    name, short = timezone.get_current_timezone_name(), zone_name(timezone.localtime())
    return name if name == short else f"{name} ({short})"


@register.filter
def for_input(at: datetime | None) -> str:
    """The value that a datetime-local field takes, in the reader's zone."""
    return f"{timezone.localtime(at):%Y-%m-%dT%H:%M}" if at else ""


@register.filter
def duration(length: timedelta | float | None) -> str:
    """The two largest units: 2 h 5 min, 3 d 4 h, 45 s."""
    if length is None:
        return NOTHING
    seconds = int(length.total_seconds() if isinstance(length, timedelta) else length)
    if seconds < 60:
        return f"{max(seconds, 0)} s"
    minutes, hours, days = seconds // 60 % 60, seconds // 3600 % 24, seconds // 86_400
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min"


def _distance(at: datetime | None, now: datetime) -> SafeString:
    if at is None:
        return NOTHING
    gap = at - now
    if abs(gap) < timedelta(seconds=1):
        words = "now"
    else:
        words = f"in {duration(gap)}" if gap > timedelta(0) else f"{duration(-gap)} ago"
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        at.astimezone(UTC).isoformat(timespec="seconds"),
        f"{timezone.localtime(at):%Y-%m-%d %H:%M:%S} {zone_name(timezone.localtime(at))}",
        words,
    )


@register.filter
def left(at: datetime | None) -> SafeString:
    """How far away a time is: in 2 h 5 min. Less than a minute is said as such, so a page stays as it is."""
    now = timezone.now()
    if at is not None and timedelta(0) < at - now < timedelta(minutes=1):
        return SafeString("in less than a minute")
    return _distance(at, now)


@register.filter
def ago(at: datetime | None) -> SafeString:
    """How long ago something was: 5 min ago."""
    return _distance(at, timezone.now())


@register.filter
def clock(length: timedelta | None) -> str:
    """A length to the second, for bills: 1:00:33."""
    if length is None:
        return NOTHING
    seconds = int(length.total_seconds())
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


# ---- amounts ----------------------------------------------------------------------------------------------
@register.filter
def plain(number: Decimal | float) -> str:
    """Without the zeros at the end: 0.5, 10."""
    return f"{Decimal(str(number)).normalize():f}"


@register.filter
def ram(mib: int | None) -> str:
    """512 MiB, 4 GiB, 1.5 GiB."""
    if mib is None:
        return NOTHING
    return f"{mib} MiB" if mib < 1024 else f"{plain(round(Decimal(mib) / 1024, 1))} GiB"


@register.filter
def cores(number: Decimal | float | None) -> str:
    """0.5 cores, 1 core."""
    if number is None:
        return NOTHING
    return f"{plain(number)} core{'' if number == 1 else 's'}"


@register.filter
def money(amount: Decimal | None, currency: str = "") -> str:
    """In the currency of this installation, or another one: $0.50, -€3.00, 0.50 CHF. Fractions of a cent show."""
    return NOTHING if amount is None else amounts.money(amount, currency)


@register.simple_tag
def bar(used: Decimal | float | None, total: Decimal | float | None, label: str) -> SafeString:
    """A bar of how much is used, as a progress element: no style attribute, and read out with its label."""
    filled, whole = float(used or 0), float(total or 0)
    share = filled / whole if whole else 0.0
    level = "is-full" if share >= 0.9 else "is-high" if share >= 0.7 else ""
    return format_html(
        '<progress class="bar {}" value="{}" max="1" aria-label="{}">{} %</progress>',
        level,
        f"{min(share, 1):.3f}",
        label,
        round(share * 100),
    )


# ---- states -----------------------------------------------------------------------------------------------
@register.filter
def tone(state: str) -> str:
    """The name of its colour, as in `tone-green`."""
    return TONES.get(str(state), "grey")


@register.filter
def state_badge(state: str) -> SafeString:
    """The word with a coloured dot; the dot breathes while something moves."""
    word = str(state)
    return format_html(
        '<span class="state tone-{}{}"><span class="state-dot"></span>{}</span>',
        TONES.get(word, "grey"),
        " is-moving" if word in MOVING else "",
        word,
    )


# ---- forms ------------------------------------------------------------------------------------------------
@register.inclusion_tag("_components/field.html")
def field(bound: BoundField, label: str = "", help_text: str | None = None) -> dict[str, object]:
    """A form field with label, help and errors; Django adds aria-describedby and aria-invalid.

    Empty `help_text` drops what the form says. A placeholder is never shown: the label says it and stays.
    """
    bound.label = label or bound.label
    bound.help_text = bound.help_text if help_text is None else help_text
    widget = bound.field.widget
    kind = "control"
    css_class = "form-control"
    if isinstance(widget, RadioSelect | CheckboxSelectMultiple):
        kind, css_class = "choices", "form-check-input"
    elif isinstance(widget, CheckboxInput):
        kind, css_class = "check", "form-check-input"
    elif isinstance(widget, Select):
        css_class = "form-select"
    own = str(widget.attrs.get("class", ""))
    invalid = "is-invalid" if bound.errors else ""
    attrs: dict[str, str | bool] = {"class": " ".join(filter(None, (own, css_class, invalid))), "placeholder": False}
    return {
        "field": bound,
        "kind": kind,
        "widget": bound.as_widget(attrs=attrs),
        "help_text": bound.help_text,
    }
