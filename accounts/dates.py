"""How dates and times are written: in the reader's zone and language, and never without the zone.

Who chose no language reads English as Berth always wrote it, and loads none of Babel's tables. Unicode's patterns say
how every other language writes a date; those that somebody here has chosen are kept in memory, 0.4 MB each.
"""

import zoneinfo
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from functools import cache

from babel import Locale, localedata
from babel.dates import DateTimePattern, match_skeleton, parse_pattern

from accounts.models import User
from accounts.validators import time_zones

_language: ContextVar[str] = ContextVar("language of dates", default="")

# How English is written when nobody asks for anything else, as strftime has it; "{day}" has no zero before it.
ENGLISH = {
    "full": "{day} %b %Y, %H:%M",
    "short": "{day} %b, %H:%M",
    "exact": "{day} %b %Y, %H:%M:%S",
    "day": "{day} %b %Y",
    "long day": "{day} %B %Y",
    "day of year": "{day} %b",
    "long day of year": "{day} %B",
    "month": "%B %Y",
    "month name": "%B",
}
# The same in Unicode's terms: a style of a whole date, or a skeleton, and the style of the time that follows.
_PARTS: dict[str, tuple[str, str]] = {
    "full": ("medium", "short"),
    "short": ("MMMd", "short"),
    "exact": ("medium", "medium"),
    "day": ("medium", ""),
    "long day": ("long", ""),
    "day of year": ("MMMd", ""),
    "long day of year": ("MMMMd", ""),
    "month": ("yMMMM", ""),
    "month name": ("LLLL", ""),
}


def read_in(language: str) -> None:
    """From now on, in this request or task, dates are written in `language`; empty: in English."""
    _language.set(_known(language))


def current_language() -> str:
    return _language.get()


def written(at: date, style: str = "full", language: str | None = None) -> str:
    """The date, or the time in the zone that it has, in one of the styles above; without the zone."""
    chosen = current_language() if language is None else _known(language)
    if not chosen:
        return at.strftime(ENGLISH[style].replace("{day}", str(at.day)))
    patterns = _patterns(chosen, style)
    day = patterns.day.apply(at, patterns.locale)
    if patterns.time is None:
        return day
    return patterns.both.replace("{0}", patterns.time.apply(at, patterns.locale)).replace("{1}", day)


def format_for(user: User, instant: datetime, style: str = "full") -> str:
    """As a mail to `user` says it, in their own zone (UTC for who chose none) and language: 20 Nov 2026, 14:05 CET."""
    local = instant.astimezone(zone_of(user))
    return f"{written(local, style, user.date_language)} {zone_name(local)}"


def zone_of(user: User) -> tzinfo:
    """The zone that somebody chose. Only a browser says another one, so without a choice a mail says UTC."""
    return zoneinfo.ZoneInfo(user.time_zone) if user.time_zone in time_zones() else UTC


def zone_name(local: datetime) -> str:
    """CET, UTC, or UTC+03 where a zone has no letters."""
    name = local.tzname() or ""
    return f"UTC{name}" if name[:1] in {"+", "-"} else name


@cache
def _known(language: str) -> str:
    """Empty for one that today's Babel does not know, whatever an earlier one did: a page comes before its dates."""
    return language if language and localedata.exists(language) else ""


@dataclass(frozen=True, slots=True)
class _Patterns:
    locale: Locale
    day: DateTimePattern
    time: DateTimePattern | None
    both: str


@cache
def _patterns(language: str, style: str) -> _Patterns:
    """What Babel makes anew at each call of its own functions."""
    locale = Locale.parse(language)
    day, time = _PARTS[style]
    both = str(locale.datetime_formats["medium"]).replace("'", "")
    return _Patterns(locale, _day_pattern(locale, day), locale.time_formats[time] if time else None, both)


def _day_pattern(locale: Locale, name: str) -> DateTimePattern:
    styles: Mapping[str | None, DateTimePattern] = locale.date_formats
    if name in styles:
        return styles[name]
    if name == "LLLL":  # a month that stands alone, which many languages write otherwise than within a date
        return parse_pattern(name)
    skeletons: Mapping[str | None, DateTimePattern] = locale.datetime_skeletons
    found = match_skeleton(name, [known for known in skeletons if known])
    return skeletons[found] if found else styles["medium"]


# Variants that write dates otherwise than their language does.
_VARIANTS = (
    *("de_AT", "de_CH", "en_AU", "en_CA", "en_GB", "en_IE", "en_IN", "en_NZ", "en_ZA", "es_AR", "es_MX", "es_US"),
    *("fr_BE", "fr_CA", "fr_CH", "nl_BE", "pt_PT", "sr_Latn", "uz_Cyrl", "zh_Hant", "zh_Hant_HK"),
)


@cache
def languages() -> list[tuple[str, str]]:
    """Those to choose from, with their English names: ("de_AT", "German (Austria)")."""
    english = Locale.parse("en")
    known = [code for code in localedata.locale_identifiers() if "_" not in code and code in english.languages]
    named = [(code, str(Locale.parse(code).get_display_name(english))) for code in _VARIANTS]
    return sorted([*((code, english.languages[code]) for code in known), *named], key=lambda pair: pair[1].casefold())
