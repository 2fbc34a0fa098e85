"""Tells people news: one row for each person and piece of news, in the page and as a mail that is due.

The rows are written within the caller's transaction, so what happened and that it is told are one. A mail is never
sent here: `accounts.mailing` sends the rows that are due.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction

from accounts.models import Notice, User

GOOD_FOR = timedelta(days=3)  # what could not be mailed until then is no news any more
_LONGEST = {"key": 120, "title": 200, "text": 600, "path": 200}  # as the columns, which a test compares

# One statement: who is gone meanwhile, or does not want it, is nobody's mistake, and the row that is there stays.
# The share lock keeps the person until the end of the transaction, whose foreign key is only checked then.
_INSERT = """
INSERT INTO accounts_notification
    (user_id, kind, key, title, text, path, created_at, in_app, by_mail, mail_at, mail_until, mail_attempts)
SELECT person.id, news.kind, news.key, news.title, news.text, news.path, %(now)s,
       COALESCE(choice.in_app, TRUE), mail.wanted,
       CASE WHEN mail.wanted THEN %(now)s END, CASE WHEN mail.wanted THEN news.mail_until END, 0
FROM unnest(%(users)s::bigint[], %(kinds)s::text[], %(keys)s::text[], %(titles)s::text[], %(texts)s::text[],
            %(paths)s::text[], %(untils)s::timestamptz[], %(mails)s::boolean[])
     AS news (user_id, kind, key, title, text, path, mail_until, mail)
JOIN accounts_user person ON person.id = news.user_id AND person.is_active AND person.closed_at IS NULL
LEFT JOIN accounts_notificationchoice choice ON choice.user_id = person.id AND choice.kind = news.kind
CROSS JOIN LATERAL (SELECT news.mail AND COALESCE(choice.by_mail, TRUE) AND person.email <> '' AS wanted) mail
ORDER BY person.id, news.key
FOR KEY SHARE OF person
ON CONFLICT (user_id, key) DO NOTHING
RETURNING user_id, key
"""


@dataclass(frozen=True, slots=True)
class News:
    """What one person is told. `key` makes it this one: the same key is told to the same person once."""

    user_id: int
    kind: Notice
    key: str
    title: str
    text: str
    path: str
    mail_until: datetime | None = None
    mail: bool = True  # False: in the page alone, whatever was chosen

    def __post_init__(self) -> None:
        if not self.key or len(self.key) > _LONGEST["key"]:
            raise ValueError(f"a key has 1 to {_LONGEST['key']} characters, not {len(self.key)}: {self.key[:200]!r}")
        if self.path and (not self.path.startswith("/") or self.path.startswith("//")):
            raise ValueError(f"the page of news is one of ours, as /reservations/7/, not {self.path!r}")


def notify(
    *,
    user: User,
    kind: Notice,
    key: str,
    title: str,
    text: str,
    path: str,
    now: datetime,
    mail_until: datetime | None = None,
    mail: bool = True,
) -> bool:
    """Tell one person within the caller's transaction; True when it is new.

    Nothing is written for who is inactive or closed. For who wants to hear nothing of this kind a row is, so that it
    stays told should they change their mind. A mail that could not be sent until `mail_until` (else for three days)
    is given up. Without `mail` it is in the page alone.
    """
    return bool(tell([News(user.pk, kind, key, title, text, path, mail_until, mail)], now=now))


def tell(news: Iterable[News], *, now: datetime) -> set[tuple[int, str]]:
    """The same for many, in one query: the user and key of those that are new."""
    rows = list(news)
    if not rows:
        return set()
    values: dict[str, Any] = {
        "now": now,
        "users": [row.user_id for row in rows],
        "kinds": [str(row.kind) for row in rows],
        "keys": [row.key for row in rows],
        "titles": [_fitting(row.title, "title") for row in rows],
        "texts": [_fitting(row.text, "text") for row in rows],
        "paths": [row.path[: _LONGEST["path"]] for row in rows],
        "untils": [row.mail_until or now + GOOD_FOR for row in rows],
        "mails": [row.mail for row in rows],
    }
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_INSERT, values)
        new = cursor.fetchall()
    return set(new)


def _fitting(text: str, field: str) -> str:
    """On one line, as a subject has to be, without NUL, and cut at a word with … where it is too long."""
    text = " ".join(text.replace("\0", "").split())
    longest = _LONGEST[field]
    if len(text) <= longest:
        return text
    return f"{text[: longest - 1].rsplit(' ', 1)[0]}…"
