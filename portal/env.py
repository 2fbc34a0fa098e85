"""Reads the environment once, and says in one sentence what is wrong with it."""

import os
import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

ROOT = Path(__file__).resolve().parent.parent


class BadSetting(SystemExit):
    """A value in the environment cannot be used: the start stops with this sentence."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"The setting {name} {problem}. docs/settings.md lists every setting.")


def load_env_file() -> None:
    """Fill the environment from the file that script/server wrote, if DATABASE_URL is not set already.

    The file is named by BERTH_ENV_FILE (default var/demo/env); its lines are KEY=VALUE. What the environment
    already holds is never overwritten, and a file that was named but is missing is an error.
    """
    if "DATABASE_URL" in os.environ:
        return
    named = os.environ.get("BERTH_ENV_FILE")
    path = ROOT / (named or "var/demo/env")
    try:
        text = path.read_text()
    except FileNotFoundError:
        if named:
            raise BadSetting("BERTH_ENV_FILE", f"names {path}, which does not exist") from None
        return
    except PermissionError:
        raise BadSetting("BERTH_ENV_FILE", f"names {path}, which this user may not read (try as root)") from None
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if separator and not key.startswith("#"):
            os.environ.setdefault(key.strip(), value.strip())


def text(name: str, default: str | None = None) -> str:
    """The value of `name`; without a default it must be set and not empty."""
    value = os.environ.get(name, "").strip()
    if value:
        return value
    if default is None:
        raise BadSetting(name, "is not set")
    return default


def flag(name: str, default: bool = False) -> bool:
    """1/true/yes/on or 0/false/no/off."""
    value = text(name, "1" if default else "0").lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise BadSetting(name, f"must be 1 or 0, not {value!r}")


def whole(name: str, default: int, minimum: int, maximum: int) -> int:
    """A whole number within [minimum, maximum]."""
    value = text(name, str(default))
    try:
        number = int(value)
    except ValueError:
        raise BadSetting(name, f"must be a whole number, not {value!r}") from None
    if not minimum <= number <= maximum:
        raise BadSetting(name, f"must be between {minimum} and {maximum}, not {number}")
    return number


def money(name: str, default: str, most: int = 10_000) -> Decimal:
    """A decimal amount within [0, most]."""
    value = text(name, default)
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise BadSetting(name, f"must be an amount such as 0.50, not {value!r}") from None
    if not amount.is_finite() or amount < 0 or amount > most:
        raise BadSetting(name, f"must be between 0 and {most}, not {value!r}")
    return amount


def optional_money(name: str, most: int) -> Decimal | None:
    """A decimal amount within [0, most]; None when it is not set."""
    return money(name, "", most) if text(name, "") else None


def matching(name: str, default: str, pattern: str, what: str) -> str:
    """A value that the pattern fits; `what` says in words what that is."""
    value = text(name, default)
    if not re.fullmatch(pattern, value):
        raise BadSetting(name, f"must be {what}, not {value!r}")
    return value


def lines(name: str, default: str) -> str:
    r"""Text of several lines, which are separated by \n as the environment can hold it."""
    return text(name, default).replace("\\n", "\n")


def zone(name: str, default: str) -> str:
    """A time zone of the IANA database, such as Europe/Berlin."""
    value = text(name, default)
    try:
        return ZoneInfo(value).key
    except (ZoneInfoNotFoundError, ValueError):
        raise BadSetting(name, f"must be a time zone such as Europe/Berlin, not {value!r}") from None


def address(name: str) -> tuple[str, int] | None:
    """Where to listen, as 10.0.0.5:9464; None when it is not set."""
    value = text(name, "")
    host, separator, port = value.rpartition(":")
    if not value:
        return None
    if not separator or not host or not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65_536:
        raise BadSetting(name, f"must be an address and a port such as 10.0.0.5:9464, not {value!r}")
    return host.strip("[]"), int(port)


def choice(name: str, default: str, choices: tuple[str, ...]) -> str:
    """One of the given words."""
    value = text(name, default).lower()
    if value not in choices:
        raise BadSetting(name, f"must be one of {', '.join(choices)}, not {value!r}")
    return value


def words(name: str, default: str = "") -> list[str]:
    """A list separated by commas."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def path(name: str, default: str = "") -> Path | None:
    """A path; a relative one starts at the checkout, so that it holds wherever the checkout is mounted."""
    value = text(name, default)
    return ROOT / value if value else None
