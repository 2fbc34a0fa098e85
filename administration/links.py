"""Links from a row of the admin to the page where one sees it live."""

from django.urls import NoReverseMatch, reverse
from django.utils.http import urlencode


def address(view: str, *args: object, **asked: str) -> str:
    """The address of a page, with what it is asked for; empty where this version has no such page."""
    try:
        page = reverse(view, args=args)
    except NoReverseMatch:
        return ""
    return f"{page}?{urlencode(asked)}" if asked else page
