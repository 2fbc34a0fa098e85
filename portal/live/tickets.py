"""What a page brings to listen: who it was made for, signed. It opens nothing but that stream."""

from datetime import timedelta

from django.core import signing

SALT = "berth.live"
LASTS = timedelta(hours=12)


def ticket(user_id: int) -> str:
    """For the pages of this user; good for `LASTS`."""
    return signing.dumps(user_id, salt=SALT)


def reader(text: str) -> int | None:
    """The user that it was made for; None when it is not ours, was tampered with or is too old."""
    try:
        found = signing.loads(text, salt=SALT, max_age=LASTS)
    except signing.BadSignature:
        return None
    return found if isinstance(found, int) else None
