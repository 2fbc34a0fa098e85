"""What a name may look like, said in sentences."""

import unicodedata
import zoneinfo
from collections.abc import Callable
from functools import cache
from typing import Any

from babel import localedata
from django.core.exceptions import ValidationError
from django.core.validators import MinLengthValidator, RegexValidator

username_validators: list[Callable[[Any], None]] = [
    MinLengthValidator(2, "A user name has at least 2 characters."),
    RegexValidator(
        r"\A[A-Za-z0-9][A-Za-z0-9._-]*\Z",
        "A user name begins with a letter or digit and has only letters, digits and . _ -",
    ),
]


def no_control_characters(value: str) -> None:
    """Refuse characters that nobody can see: controls, surrogates, marks that turn the direction of writing."""
    if any(unicodedata.category(character) in {"Cc", "Cs", "Co", "Cn"} for character in value):
        raise ValidationError("Control characters are not allowed here.", code="control_characters")
    if any(character in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029" for character in value):
        raise ValidationError("Characters that change the direction of writing are not allowed here.")


@cache
def time_zones() -> frozenset[str]:
    """Every zone that this machine knows; read from the disk once."""
    return frozenset(zoneinfo.available_timezones())


def validate_time_zone(value: str) -> None:
    if value and value not in time_zones():
        raise ValidationError(f"“{value}” is not a known time zone (try Europe/Berlin).", code="time_zone")


def validate_date_language(value: str) -> None:
    if value and value not in localedata.locale_identifiers():
        raise ValidationError(f"“{value}” is not a known language (try de or en_GB).", code="date_language")
