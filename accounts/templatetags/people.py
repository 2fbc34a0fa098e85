"""How people's things are told on pages."""

from django import template
from django.conf import settings

register = template.Library()

# The first that is found counts: most browsers also name those that they are built upon.
BROWSERS = (("Edg", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
SYSTEMS = (
    ("Windows", "Windows"),
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Mac OS X", "macOS"),
)


@register.simple_tag
def single_sign_on() -> dict[str, object] | None:
    """The provider that settings name: what it is called, and whether nothing else opens accounts."""
    if not settings.BERTH_OIDC_ISSUER:
        return None
    return {"name": settings.BERTH_OIDC_NAME, "only": settings.BERTH_OIDC_ONLY}


@register.filter
def browser_name(user_agent: str) -> str:
    """Firefox on Linux; what a program calls itself; or an unknown browser."""
    browser = next((name for sign, name in BROWSERS if sign in user_agent), "")
    system = next((name for sign, name in (*SYSTEMS, ("Linux", "Linux")) if sign in user_agent), "")
    if not browser:
        return user_agent[:40] or "unknown browser"
    return f"{browser} on {system}" if system else browser
