"""Bars and amounts of the monitor's pages. No style attributes: what is measured is an attribute of a shape."""

from decimal import Decimal

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from portal.templatetags.berth import NOTHING, cores, plain, ram

register = template.Library()
Number = Decimal | float | int | None


# ---- bars -------------------------------------------------------------------------------------------------
@register.simple_tag
def lent_and_used(what: str, unit: str, held: Number, lends: Number, used: Number, whole: Number) -> SafeString:
    """One bar over the whole machine: what is lent of what it lends, and what is really used, thin before it.

    `unit` is "ram" (MiB) or "cores". Where Berth sees only the engine, the whole is what the node lends.
    """
    words = _mib if unit == "ram" else cores
    lent, most = float(held or 0), float(lends or 0)
    scale = max(float(whole or 0), most, lent, float(used or 0)) or 1.0
    says = f"{what}: {words(held or 0)} of {words(lends)} lent"
    rects = _rect("lu-ground", 100.0) + _rect("lu-lends", 100 * most / scale) + _rect("lu-lent", 100 * lent / scale)
    if used is not None:
        says += f", {words(_tenths(used))} of {words(_tenths(whole))} used"
        share = float(used) / scale
        rects += _rect(f"lu-used {level(share)}", 100 * share, y=4, height=4)
    return format_html(
        '<svg class="lu" width="100%" height="12" role="img" aria-label="{says}"><title>{says}</title>{rects}</svg>',
        says=says,
        rects=SafeString(rects),
    )


def _rect(css: str, width: float, *, y: int = 0, height: int = 12) -> str:
    """Numbers and words of this file only, so there is nothing to escape; a page has hundreds of them."""
    return f'<rect class="{css}" y="{y}" width="{width:.1f}%" height="{height}" rx="{height // 4 + 1}"></rect>'


@register.simple_tag
def share_bar(what: str, share: float | None) -> SafeString:
    """How full something is, from 0 to 1, with the percentage beside it."""
    if share is None:
        return format_html('<span class="quiet">{}</span>', NOTHING)
    shown = max(0.0, min(share, 1.0))
    return format_html(
        '<span class="share"><svg class="lu" width="100%" height="8" role="img" aria-label="{}"><rect class="lu-ground"'
        ' width="100%" height="8" rx="3"></rect><rect class="lu-fill {}" width="{}%" height="8" rx="3"></rect></svg>'
        "<span>{} %</span></span>",
        f"{what}: {round(share * 100)} %",
        level(share),
        f"{shown * 100:.1f}",
        round(share * 100),
    )


def level(share: float) -> str:
    return "is-full" if share >= 0.9 else "is-high" if share >= 0.75 else ""


def _mib(number: Number) -> str:
    return ram(None if number is None else int(number))


def _tenths(number: Number) -> float | None:
    return None if number is None else round(float(number), 1)


# ---- amounts ----------------------------------------------------------------------------------------------
# A reading that is not there resolves to an empty text in a template: it is nothing, as None is.
@register.filter
def percent(share: float | str | None) -> str:
    return NOTHING if share is None or isinstance(share, str) else f"{round(share * 100)} %"


@register.filter
def exact_percent(share: float | str | None) -> str:
    """Of availability, where 99.9 and 100 are not the same; never rounded up to 100."""
    if share is None or isinstance(share, str):
        return NOTHING
    return "100 %" if share >= 1 else f"{min(int(share * 10_000) / 100, 99.99):g} %"


@register.filter
def used_cores(number: float | str | None) -> str:
    """Measured ones: 0.03, 1.5."""
    if number is None or isinstance(number, str):
        return NOTHING
    return f"{number:.2f}" if number < 1 else f"{number:.1f}"


@register.filter
def bytes_per_s(number: float | str | None) -> str:
    """12 kB/s."""
    if number is None or isinstance(number, str):
        return NOTHING
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{plain(round(number, 0 if unit == 'B' or number >= 10 else 1))} {unit}/s"
        number /= 1000
    return f"{plain(round(number, 1))} GB/s"


@register.filter
def mib(number: float | str | None) -> str:
    """Measured MiB, as exact as anybody reads: 3.4 MiB, 512 MiB, 1.5 GiB, 488 GiB, 2 TiB."""
    if number is None or isinstance(number, str):
        return NOTHING
    for unit in ("MiB", "GiB"):
        if number < 1024:
            return f"{plain(round(number, 1 if number < 100 else 0))} {unit}"
        number /= 1024
    return f"{plain(round(number, 1))} TiB"
