"""What an admin may write into a service, field by field. Plain functions on values.

The engine's driver refuses what is dangerous once more (compute/docker_config.py); here it is said at the field, when
it is typed, and not at the first start.
"""

import re
import string
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from compute.spec import CAPABILITIES, folder_problem
from reservations import option_rules
from reservations.option_rules import VARIABLE

KINDS = ("http", "tcp", "ssh")
SSH_KEYS = "ssh_keys"  # in a variable: the public keys of whoever booked, one a line
MOST_PIDS = 4096
MOST_SCRATCH = 8
LEAST_WRITES_MIB = 16

_PORT_NAME = re.compile(r"\A[a-z][a-z0-9-]{0,29}\Z")
_IMAGE = re.compile(r"\A[a-z0-9]+([._/-][a-z0-9]+)*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_RANDOM = re.compile(r"\Arandom:([1-9][0-9]?)\Z")


def problems(fields: Mapping[str, Any]) -> dict[str, list[str]]:
    """A list of sentences for each field in which something cannot be; empty when the service is fine."""
    found: dict[str, list[str]] = {}
    for field, sentence in _all(fields):
        found.setdefault(field, []).append(sentence)
    return found


def image_problems(image: object) -> list[str]:
    """What is wrong with the name of an image; of a version it is said at its own field."""
    return list(_image(image))


def _all(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    credentials = fields["credentials"]
    known = set(credentials) if isinstance(credentials, dict) else set()
    for field, sentences in (
        ("image", _image(fields["image"])),
        ("ports", _ports(fields["ports"])),
        ("environment", _environment(fields["environment"], known)),
        ("options", option_rules.problems(fields["options"], fields["environment"])),
        ("command", _command(fields["command"], known)),
        ("credentials", _credentials(credentials)),
        ("connect", () if _is_texts(fields["connect"]) else ("It must be a list of texts.",)),
        ("mount_path", _folders([fields["mount_path"]] if fields["mount_path"] else [])),
        ("capabilities", _capabilities(fields["capabilities"])),
        ("pids", _between(fields["pids"], 1, MOST_PIDS)),
        ("writes_mib", _between(fields["writes_mib"], LEAST_WRITES_MIB, 2**20)),
        ("scratch", _scratch(fields["scratch"], fields["mount_path"])),
    ):
        for sentence in sentences:
            yield field, sentence


def _image(image: object) -> Iterator[str]:
    if not isinstance(image, str) or not _IMAGE.match(image):
        yield "An image is repository:tag, as library/nginx:1.27."


def _ports(ports: object) -> Iterator[str]:
    if not isinstance(ports, list) or not ports:
        yield "At least one port is needed."
        return
    for port in ports:
        if not isinstance(port, dict) or set(port) != {"name", "kind", "port"}:
            yield 'Each port is {"name": …, "kind": …, "port": …}.'
            return
        if not isinstance(port["name"], str) or not _PORT_NAME.match(port["name"]):
            yield "A port's name has lower-case letters, digits and dashes, at most 30."
        if port["kind"] not in KINDS:
            yield f"A port's kind is one of {', '.join(KINDS)}."
        if type(port["port"]) is not int or not 0 < port["port"] < 65_536:
            yield "A port is a number from 1 to 65535."
    for what in ("name", "port"):
        if len({str(port[what]) for port in ports}) < len(ports):
            yield f"Each port needs a {what} of its own."


def _environment(environment: object, known: set[str]) -> Iterator[str]:
    if not isinstance(environment, dict):
        yield "It must be an object of names and texts."
        return
    for name, value in environment.items():
        if not VARIABLE.match(name):
            yield f"{name[:60]!r} is not the name of a variable."
        yield from _template(value, known | {SSH_KEYS})


def _command(command: object, known: set[str]) -> Iterator[str]:
    if not _is_texts(command):
        yield "It must be a list of texts."
        return
    for word in command:
        yield from _template(word, known)


def _template(text: object, known: set[str]) -> Iterator[str]:
    """A text with {names} of credentials, and nothing else that Python's format would read."""
    if not isinstance(text, str) or "\0" in text:
        yield "A value must be a text."
        return
    try:
        parts = list(string.Formatter().parse(text))
    except ValueError as problem:
        yield f"{text[:60]!r}: {problem}. Write {{{{ and }}}} for braces."
        return
    for _, name, form, conversion in parts:
        if name is not None and (name not in known or form or conversion):
            yield f"{text[:60]!r}: there is no credential {name!r}. Write {{{{ and }}}} for braces."


def _credentials(credentials: object) -> Iterator[str]:
    if not isinstance(credentials, dict):
        yield "It must be an object of names and texts."
        return
    for name, rule in credentials.items():
        if not VARIABLE.match(name) or name in {"host", "port", SSH_KEYS} or name.startswith("port_"):
            yield f"{name[:60]!r} cannot be the name of a credential."
        if not isinstance(rule, str) or (rule.startswith("random:") and not _RANDOM.match(rule)):
            yield 'A credential is a text, or "random:24" for so many random characters.'


def _capabilities(capabilities: object) -> Iterator[str]:
    if not _is_texts(capabilities):
        yield "It must be a list of texts."
        return
    if beyond := sorted(set(capabilities) - CAPABILITIES):
        allowed = ", ".join(sorted(CAPABILITIES))
        yield f"No container may have {', '.join(beyond)[:200]}. What it may have is among {allowed}."


def _folders(folders: object) -> Iterator[str]:
    if not isinstance(folders, list):
        yield "It must be a list of folders."
        return
    for folder in folders:
        if problem := folder_problem(folder):
            yield f"{problem[0].upper()}{problem[1:]}."


def _scratch(folders: object, mount_path: object) -> Iterator[str]:
    yield from _folders(folders)
    if isinstance(folders, list):
        if len(folders) > MOST_SCRATCH:
            yield f"At most {MOST_SCRATCH} folders can be in memory."
        if mount_path and mount_path in folders:
            yield "The volume's folder cannot be in memory, too."


def _between(number: object, least: int, most: int) -> Iterator[str]:
    if type(number) is not int or not least <= number <= most:
        yield f"It must be a number from {least} to {most}."


def _is_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(word, str) and "\0" not in word for word in value)
