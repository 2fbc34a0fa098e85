"""What each person wants to hear, and how: chosen on a page, or ended by the link in a mail."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from django.core import signing
from django.db import transaction

from accounts import audit
from accounts.models import Notice, Notification, NotificationChoice, User

SALT = "accounts.choosing.stop"
GOOD_FOR = timedelta(days=365)  # a link in a mail that is older than that


@dataclass(frozen=True, slots=True)
class Ways:
    """How somebody hears of one kind."""

    in_app: bool = True
    by_mail: bool = True


class BadLink(Exception):
    """The link was changed, is too old, or is of somebody who is gone; the sentence is for who follows it."""


def choices_of(user: User) -> dict[Notice, Ways]:
    """Every kind, in its order; what was never chosen comes both ways."""
    rows = {row.kind: Ways(row.in_app, row.by_mail) for row in NotificationChoice.objects.filter(user=user)}
    return {kind: rows.get(kind, Ways()) for kind in Notice}


def choose(*, user: User, ways: Mapping[Notice, Ways], by: object) -> bool:
    """From now on they hear of these kinds so; mails that wait and are not wanted any more are not sent.

    Whether anything is another than before.
    """
    with transaction.atomic(durable=True):
        User.objects.select_for_update(no_key=True).get(pk=user.pk)  # two pages at once: the later one counts whole
        before = choices_of(user)
        new = {kind: way for kind, way in ways.items() if before[kind] != way}
        if not new:
            return False
        NotificationChoice.objects.bulk_create(
            [NotificationChoice(user=user, kind=kind, in_app=w.in_app, by_mail=w.by_mail) for kind, w in new.items()],
            update_conflicts=True,
            unique_fields=["user", "kind"],
            update_fields=["in_app", "by_mail"],
        )
        silent = [kind for kind, way in new.items() if not way.by_mail]
        Notification.objects.filter(user=user, kind__in=silent, mailed_at=None).update(mail_at=None)
        told = {str(kind): [way.in_app, way.by_mail] for kind, way in new.items()}
        audit.record(by=by, action="notifications.choose", target=f"user:{user.pk}", choices=told)
    return True


# ---- the link in a mail ---------------------------------------------------------------------------------------------


def token(user: User, kind: str) -> str:
    """For the link that ends mails of this kind (empty: of all kinds), good without log-in."""
    return signing.dumps([user.pk, str(kind)], salt=SALT)


def read_token(text: str) -> tuple[User, list[Notice]]:
    """Whose link it is, and which kinds it ends. Raises BadLink."""
    try:
        user_id, kind = signing.loads(text, salt=SALT, max_age=GOOD_FOR)
        found = User.objects.filter(pk=int(user_id), is_active=True, closed_at=None)
        kinds = [Notice(kind)] if kind else list(Notice)
    except (signing.BadSignature, ValueError, TypeError):
        raise BadLink("This link is not whole or is too old. Log in to choose what you hear.") from None
    user = found.first()
    if user is None:
        raise BadLink("The account that this link is of is closed: nothing is mailed to it any more.")
    return user, kinds


def stop_mails(*, user: User, kinds: list[Notice], by: object) -> bool:
    """No more mails of these kinds; in the page they are still shown to who wanted that."""
    ways = choices_of(user)
    return choose(user=user, ways={kind: Ways(ways[kind].in_app, by_mail=False) for kind in kinds}, by=by)
