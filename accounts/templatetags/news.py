"""What the bell shows, and how kinds of news look."""

from django import template

from accounts import news
from accounts.models import Notice, User

register = template.Library()

ICONS = {
    Notice.ENDS_SOON: "clock-hour-4",
    Notice.STARTED: "player-play",
    Notice.FAILED: "alert-triangle",
    Notice.MOVED: "arrows-exchange",
    Notice.ENDED: "flag",
    Notice.OFFER: "gift",
    Notice.WORKSPACE: "users",
}


@register.simple_tag
def unread_news(user: User) -> news.Unread:
    """One query."""
    return news.unread(user)


@register.filter
def news_icon(kind: str) -> str:
    return ICONS.get(Notice(kind), "bell") if kind in Notice.values else "bell"
