"""Bars and amounts of the monitor's pages. No style attributes: what is measured is an attribute of a shape."""

from decimal import Decimal

from django import template
from django.utils.html import format_html, format_html_join
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
    words = ram if unit == "ram" else cores
    lent, most = float(held or 0), float(lends or 0)
    scale = max(float(whole or 0), most, lent, float(used or 0)) or 1.0
    says = f"{what}: {words(held or 0)} of {words(lends)} lent"
    shapes = [("lu-ground", 0.0, 100.0), ("lu-lends", 0.0, 100 * most / scale), ("lu-lent", 0.0, 100 * lent / scale)]
    if used is not None:
        says += f", {words(_rounded(used, unit))} of {words(_rounded(whole, unit))} used"
        shapes.append((f"lu-used {level(float(used) / scale)}", 0.0, 100 * float(used) / scale))
    rects = format_html_join(
        "",
        '<rect class="{}" x="{}%" y="{}" width="{}%" height="{}" rx="{}"></rect>',
        ((css, f"{x:.1f}", *_height(css), f"{width:.1f}", *_depth(css)) for css, x, width in shapes),
    )
    return format_html(
        '<svg class="lu" width="100%" height="12" role="img" aria-label="{}"><title>{}</title>{}</svg>',
        says,
        says,
        rects,
    )


def _height(css: str) -> tuple[str]:
    return ("4" if css.startswith("lu-used") else "0",)


def _depth(css: str) -> tuple[str, str]:
    return ("4", "2") if css.startswith("lu-used") else ("12", "3")


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


def _rounded(number: Number, unit: str) -> Number:
    if number is None or unit == "ram":
        return None if number is None else int(number)
    return round(float(number), 1)


# ---- amounts ----------------------------------------------------------------------------------------------
@register.filter
def percent(share: float | None) -> str:
    return NOTHING if share is None else f"{round(share * 100)} %"


@register.filter
def exact_percent(share: float | None) -> str:
    """Of availability, where 99.9 and 100 are not the same; never rounded up to 100."""
    if share is None:
        return NOTHING
    return "100 %" if share >= 1 else f"{min(int(share * 10_000) / 100, 99.99):g} %"


@register.filter
def used_cores(number: float | None) -> str:
    """Measured ones: 0.03, 1.5."""
    if number is None:
        return NOTHING
    return f"{number:.2f}" if number < 1 else f"{number:.1f}"


@register.filter
def bytes_per_s(number: float | None) -> str:
    """12 kB/s."""
    if number is None:
        return NOTHING
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{plain(round(number, 0 if unit == 'B' or number >= 10 else 1))} {unit}/s"
        number /= 1000
    return f"{plain(round(number, 1))} GB/s"


@register.filter
def mib(number: float | None) -> str:
    """Measured MiB, as exact as anybody reads: 3.4 MiB, 512 MiB, 1.5 GiB, 488 GiB, 2 TiB."""
    if number is None:
        return NOTHING
    for unit in ("MiB", "GiB"):
        if number < 1024:
            return f"{plain(round(number, 1 if number < 100 else 0))} {unit}"
        number /= 1024
    return f"{plain(round(number, 1))} TiB"
