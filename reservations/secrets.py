"""Credentials of containers: generated here, sealed in the database, open only to the workspace's members.

Sealed with Fernet (AES-128-CBC and HMAC-SHA256, as the cryptography package documents it) under a key derived
from SECRET_KEY, so that a copy of the database alone opens no customer's container.
"""

import base64
import json
import secrets
import string
from functools import cache
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from django.db import models

ALPHABET = string.ascii_letters + string.digits  # no character that a shell or a URL would read otherwise


def generate(recipe: dict[str, str]) -> dict[str, str]:
    """The values for a service's recipe: "random:24" becomes 24 random characters, anything else stays."""
    return {name: _value(rule) for name, rule in recipe.items()}


def _value(rule: str) -> str:
    kind, _, length = rule.partition(":")
    return "".join(secrets.choice(ALPHABET) for _ in range(int(length))) if kind == "random" else rule


@cache
def _box(secret_key: str) -> Fernet:
    derived = HKDF(SHA256(), 32, salt=None, info=b"berth credentials").derive(secret_key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))


class SealedJSONField(models.TextField[Any, Any]):
    _pyi_private_set_type: Any  # what django-stubs takes from an assignment
    _pyi_private_get_type: Any
    """A JSON value that the database holds encrypted. One that a changed SECRET_KEY cannot open reads as {}."""

    def get_prep_value(self, value: Any) -> str:
        return _box(settings.SECRET_KEY).encrypt(json.dumps(value).encode()).decode()

    def from_db_value(self, value: str | None, expression: object, connection: object) -> Any:
        if not value:
            return {}
        try:
            return json.loads(_box(settings.SECRET_KEY).decrypt(value.encode()))
        except InvalidToken:
            return {}

    def to_python(self, value: Any) -> Any:
        return value if isinstance(value, dict) else {}
