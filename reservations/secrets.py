"""Credentials of containers: generated here, sealed in the database, open only to the workspace's members.

Sealed as accounts/sealing.py says, so that a copy of the database alone opens no customer's container.
"""

import json
import secrets
import string
from typing import Any

from django.db import models

from accounts import sealing

PURPOSE = "credentials"
ALPHABET = string.ascii_letters + string.digits  # no character that a shell or a URL would read otherwise


def generate(recipe: dict[str, str]) -> dict[str, str]:
    """The values for a service's recipe: "random:24" becomes 24 random characters, anything else stays."""
    return {name: _value(rule) for name, rule in recipe.items()}


def _value(rule: str) -> str:
    kind, _, length = rule.partition(":")
    return "".join(secrets.choice(ALPHABET) for _ in range(int(length))) if kind == "random" else rule


class SealedJSONField(models.TextField[Any, Any]):
    _pyi_private_set_type: Any  # what django-stubs takes from an assignment
    _pyi_private_get_type: Any
    """A JSON value that the database holds encrypted. One that a changed SECRET_KEY cannot open reads as {}."""

    def get_prep_value(self, value: Any) -> str:
        return sealing.seal(json.dumps(value), purpose=PURPOSE)

    def from_db_value(self, value: str | None, expression: object, connection: object) -> Any:
        if not value:
            return {}
        try:
            return json.loads(sealing.unseal(value, purpose=PURPOSE))
        except sealing.Unreadable:
            return {}

    def to_python(self, value: Any) -> Any:
        return value if isinstance(value, dict) else {}
