"""What an admin may offer customers to set: a small part of JSON Schema, checked when the service is saved.

Each property is an environment variable. A pattern has no groups, alternatives or look-aheads and few parts that
repeat, and what it is held against is short: so no value can keep a process busy. Plain functions on values.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

VARIABLE = re.compile(r"\A[A-Za-z_][A-Za-z0-9_]*\Z")
TYPES = ("string", "integer", "boolean")
MOST_OPTIONS = 30
MOST_CHOICES = 50
MOST_CHARACTERS = 1000  # of any value
MOST_MATCHED = 100  # of one that is held against a pattern
MOST_REPEATS = 3
MOST_NUMBER = 2**53  # beyond it JSON's numbers are not exact everywhere

_ABOUT = {"type", "title", "description", "default"}
_KEYS = {
    "string": _ABOUT | {"enum", "pattern", "minLength", "maxLength"},
    "integer": _ABOUT | {"enum", "minimum", "maximum"},
    "boolean": _ABOUT,
}
_KINDS: dict[str, type] = {"string": str, "integer": int, "boolean": bool}
# One atom (a class, an escaped character, a plain one) and how often it may come.
_PART = re.compile(
    r"(?:\[\^?(?:\\[^\n]|[^\]\\\n])+\]|\\[dswDSW._/@+*?$^()\[\]{}|\\-]|[^\\\[\](){}|*+?^$\n])"
    r"(?P<often>[*+?]|\{(?P<least>\d{1,3})(?P<range>,(?P<most>\d{0,3}))?\})?"
)


def problems(schema: object, environment: object) -> Iterator[str]:
    """A sentence for each thing that cannot be in the schema of a service with this environment of its own."""
    if schema == {}:
        return
    if not isinstance(schema, dict) or schema.get("type") != "object":
        yield 'It must be a schema of the type "object".'
        return
    if beyond := sorted(set(schema) - {"type", "properties", "additionalProperties"}):
        yield f"{', '.join(map(str, beyond))[:200]} cannot stand beside type and properties."
    if schema.get("additionalProperties", False) is not False:
        yield "additionalProperties can only be false: customers set what is named here and nothing else."
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        yield "properties must be an object, with a name for each thing that can be set."
        return
    if len(properties) > MOST_OPTIONS:
        yield f"At most {MOST_OPTIONS} options can be offered."
    own = set(environment) if isinstance(environment, dict) else set()
    for name, rule in properties.items():
        if not VARIABLE.match(name) or len(name) > 60:
            yield f"{name[:60]!r} is not the name of an environment variable."
        elif name in own:
            yield f"{name} is set in the service's environment already."
        yield from (f"{name[:60]}: {sentence}" for sentence in _property(rule))


def _property(rule: object) -> Iterator[str]:
    if not isinstance(rule, dict) or rule.get("type") not in TYPES:
        yield f"its type is one of {', '.join(TYPES)}."
        return
    kind: str = rule["type"]
    if beyond := sorted(set(rule) - _KEYS[kind]):
        yield f"a {kind} cannot have {', '.join(map(str, beyond))[:200]}."
    for key in ("title", "description"):
        if not _is_line(rule.get(key, ""), 300):
            yield f"{key} must be a text of at most 300 characters."
    yield from _bounds(rule, "minLength", "maxLength", 0, MOST_CHARACTERS)
    yield from _bounds(rule, "minimum", "maximum", -MOST_NUMBER, MOST_NUMBER)
    if "enum" in rule:
        yield from _choices(rule["enum"], kind)
    if "pattern" in rule:
        yield from _pattern(rule)
    if "default" in rule and not _is(rule["default"], kind):
        yield f"its default must be a {kind}."


def _bounds(rule: Mapping[str, Any], least: str, most: str, lowest: int, highest: int) -> Iterator[str]:
    for key in (least, most):
        if key in rule and not (type(rule[key]) is int and lowest <= rule[key] <= highest):
            yield f"{key} must be a number from {lowest} to {highest}."
            return
    if least in rule and most in rule and rule[least] > rule[most]:
        yield f"{least} is above {most}."


def _choices(choices: object, kind: str) -> Iterator[str]:
    if not isinstance(choices, list) or not 0 < len(choices) <= MOST_CHOICES:
        yield f"enum must be a list of 1 to {MOST_CHOICES} values."
    elif not all(_is(choice, kind) for choice in choices):
        yield f"each value of enum must be a {kind}."


def _pattern(rule: Mapping[str, Any]) -> Iterator[str]:
    pattern = rule["pattern"]
    if not isinstance(pattern, str) or not 2 <= len(pattern) <= 200:
        yield "pattern must be a text of at most 200 characters."
        return
    if type(rule.get("maxLength")) is not int or rule["maxLength"] > MOST_MATCHED:
        yield f"beside a pattern, maxLength must say at most {MOST_MATCHED}."
    if not (pattern.startswith("^") and pattern.endswith("$")):
        yield "pattern must begin with ^ and end with $, so that it speaks of the whole value."
        return
    repeats, at, end = 0, 1, len(pattern) - 1
    while at < end:
        part = _PART.match(pattern, at, end)
        if part is None:
            yield f"pattern cannot be read at {pattern[at : at + 10]!r}: it may have no groups and no alternatives."
            return
        repeats += part["often"] in {"*", "+", "?"} or part["range"] is not None
        at = part.end()
    if repeats > MOST_REPEATS:
        yield f"at most {MOST_REPEATS} parts of a pattern may come more or less often (* + ? and {{1,5}})."
    try:
        re.compile(pattern)
    except (re.error, OverflowError) as problem:
        yield f"pattern cannot be read: {problem}."


def _is(value: object, kind: str) -> bool:
    """Whether it can be a value of that type: a truth value is no number here."""
    if kind == "string":
        return _is_line(value, MOST_CHARACTERS)
    return type(value) is _KINDS[kind] and (kind == "boolean" or abs(int(str(value))) <= MOST_NUMBER)


def _is_line(value: object, most: int) -> bool:
    return isinstance(value, str) and len(value) <= most and not any(ord(character) < 32 for character in value)
