"""Seals secrets that must be read again, so that a copy of the database alone opens none of them.

Fernet (AES-128-CBC and HMAC-SHA256, as the cryptography package documents it) under a key that HKDF derives from
SECRET_KEY. Each purpose has a key of its own: what was sealed for one cannot be opened as another.
"""

import base64
from functools import cache

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


class Unreadable(Exception):
    """It was sealed under another SECRET_KEY or for another purpose, or was changed since."""


def seal(text: str, *, purpose: str) -> str:
    """The text, encrypted; printable."""
    return _box(settings.SECRET_KEY, purpose).encrypt(text.encode()).decode()


def unseal(sealed: str, *, purpose: str) -> str:
    """What was sealed. Raises Unreadable."""
    try:
        return _box(settings.SECRET_KEY, purpose).decrypt(sealed.encode()).decode()
    except InvalidToken as problem:
        raise Unreadable from problem


@cache
def _box(secret_key: str, purpose: str) -> Fernet:
    derived = HKDF(SHA256(), 32, salt=None, info=f"berth {purpose}".encode()).derive(secret_key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
