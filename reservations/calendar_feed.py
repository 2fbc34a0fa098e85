"""The iCalendar feed (RFC 5545) of what somebody may see, at an address that is secret.

The address holds the user's `calendar_key`, by which they are found, and an HMAC of it with this installation's
SECRET_KEY: a copy of the database alone opens no calendar. Who changes SECRET_KEY changes all addresses.
"""

import base64
import binascii
import hashlib
import hmac
import uuid
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Max
from django.urls import reverse
from django.utils.crypto import salted_hmac
from icalendar import Calendar, Event

from accounts import audit
from accounts.models import User
from reservations.calendar_layout import span
from reservations.models import Reservation
from reservations.states import State

PAST = timedelta(days=30)
MOST = 1000
FETCH_EVERY = timedelta(minutes=15)
SALT = "berth.calendar-feed"
KEY_BYTES, PROOF_BYTES = 16, 20
NOBODYS = uuid.UUID(int=0)


# ---- the address ------------------------------------------------------------------------------------------


def secret_of(key: uuid.UUID) -> str:
    """What stands in the address of the calendar with this key."""
    return base64.urlsafe_b64encode(key.bytes + _proof(key)).decode()


def owner_of(secret: str) -> User | None:
    """Whose calendar this is; None: nobody's, or of somebody who may not log in any more.

    Whatever is wrong with it takes the same time: a proof is made and compared, and the database is asked.
    """
    try:
        raw = base64.b64decode(secret.encode(), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeError):  # UnicodeError: lone surrogates
        raw = b""
    well_formed = len(raw) == KEY_BYTES + PROOF_BYTES
    key = uuid.UUID(bytes=raw[:KEY_BYTES]) if well_formed else NOBODYS
    proven = hmac.compare_digest(raw[KEY_BYTES:], _proof(key))
    found = User.objects.filter(calendar_key=key, is_active=True, closed_at=None).first()
    return found if proven and well_formed else None


def _proof(key: uuid.UUID) -> bytes:
    return salted_hmac(SALT, key.bytes, algorithm=hashlib.sha256().name).digest()[:PROOF_BYTES]


def open_(*, user: User) -> None:
    """Give the calendar an address, if it has none."""
    with transaction.atomic(durable=True):
        if User.objects.filter(pk=user.pk, calendar_key=None).update(calendar_key=uuid.uuid4()):
            audit.record(by=user, action="calendar.open", target=f"user:{user.pk}")


def renew(*, user: User) -> None:
    """Another address from now on; the old one is nobody's."""
    with transaction.atomic(durable=True):
        User.objects.filter(pk=user.pk).update(calendar_key=uuid.uuid4())
        audit.record(by=user, action="calendar.renew", target=f"user:{user.pk}")


def close(*, user: User) -> None:
    """No address any more."""
    with transaction.atomic(durable=True):
        if User.objects.filter(pk=user.pk).exclude(calendar_key=None).update(calendar_key=None):
            audit.record(by=user, action="calendar.close", target=f"user:{user.pk}")


# ---- what is in it ----------------------------------------------------------------------------------------


def render(user: User, now: datetime) -> bytes:
    """The calendar of whatever `user` may see: the last days and all that is to come, in three queries at most."""
    calendar = Calendar()
    calendar.add("prodid", "-//Berth//Reservations//EN")
    calendar.add("version", "2.0")
    calendar.add("calscale", "GREGORIAN")
    calendar.add("x-wr-calname", "Berth reservations")
    calendar.add("refresh-interval", FETCH_EVERY, parameters={"VALUE": "DURATION"})
    calendar.add("x-published-ttl", "PT15M")
    for row in _rows(user, now):
        calendar.add_component(_event(row))
    return bytes(calendar.to_ical())


def _rows(user: User, now: datetime) -> list[Reservation]:
    """The latest starts first, should there be too many: what is over is missed least."""
    rows = Reservation.objects.visible_to(user).filter(end__gt=now - PAST)
    numbers = rows.order_by("-start", "-pk").values_list("pk", flat=True)[:MOST]
    found = Reservation.objects.filter(pk__in=list(numbers)).for_lists()
    told = found.annotate(events_count=Count("events"), changed_at=Max("events__at"))
    return list(told.order_by("start", "pk"))


def _event(row: Reservation) -> Event:
    """Its history counts the changes; when the last one was is when the event was changed."""
    begins, ends = span(row) or (row.start, row.end)
    changed = max(getattr(row, "changed_at", None) or row.created_at, row.created_at).astimezone(UTC)
    event = Event()
    event.add("uid", f"{row.key}@{urlsplit(settings.BERTH_BASE_URL).hostname}")
    event.add("dtstamp", changed)
    event.add("last-modified", changed)
    event.add("created", row.created_at.astimezone(UTC))
    event.add("sequence", getattr(row, "events_count", 0))
    event.add("dtstart", begins.astimezone(UTC))
    event.add("dtend", ends.astimezone(UTC))
    event.add("summary", f"{row.title} ({row.service.name})" if row.name else row.title)
    event.add("description", _description(row))
    event.add("status", _status(row))
    event.add("transp", "TRANSPARENT")  # nobody is away because a container runs
    event.add("categories", [row.service.name])
    event.add("url", f"{settings.BERTH_BASE_URL}{reverse('reservations:detail', args=[row.pk])}")
    return event


def _status(row: Reservation) -> str:
    if row.state == State.OFFERED:
        return "TENTATIVE"
    never_ran = not row.is_live and row.running_since is None
    return "CANCELLED" if never_ran else "CONFIRMED"


def _description(row: Reservation) -> str:
    """What anybody may know who sees the calendar over a shoulder: never credentials, nor commands that hold them."""
    lines = [f"{row.service.name}, {row.size_text}", f"Reservation {row.pk} of {row.workspace.name}"]
    lines.append(f"State: {row.state}. {row.state_sentence}")
    if row.is_live:
        lines += [f"Address ({endpoint.name}): {endpoint.url or endpoint.address}" for endpoint in row.endpoints.all()]
    return "\n".join(lines)
