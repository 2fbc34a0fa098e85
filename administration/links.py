"""Links from a row of the admin to the page where one sees it live."""

from django.urls import NoReverseMatch, reverse


def address(view: str, *args: object) -> str:
    """The address of a page; empty where this version has no such page."""
    try:
        return reverse(view, args=args)
    except NoReverseMatch:
        return ""
