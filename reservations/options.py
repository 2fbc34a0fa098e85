"""What customers set of a service: the values against the service's schema, and as environment variables.

The schema is one that option_rules let pass when the service was saved.
"""

from collections.abc import Mapping
from typing import Any

import jsonschema
from django.core.exceptions import ValidationError

from accounts.validators import no_control_characters
from reservations.option_rules import MOST_CHARACTERS, MOST_NUMBER

Value = str | int | bool
FIELD = "options"


def problems(schema: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, str]:
    """A sentence for each value that cannot be, under options.NAME; empty when all can."""
    properties = schema.get("properties", {})
    found = {}
    for name, value in values.items():
        if name not in properties:
            found[f"{FIELD}.{name[:60]}"] = "This service has no such option."
        elif sentence := _problem(properties[name], value):
            found[f"{FIELD}.{name}"] = sentence
    return found


def with_defaults(schema: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Value]:
    """The values, and the default of what was not set and has one."""
    properties: Mapping[str, Any] = schema.get("properties", {})
    return {name: rule["default"] for name, rule in properties.items() if "default" in rule} | dict(values)


def as_environment(values: Mapping[str, Any]) -> dict[str, str]:
    """The values as a container gets them: word for word, never read as a template."""
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}


def from_text(rule: Mapping[str, Any], text: str) -> Value:
    """What was typed into a form, as the schema's type where it can be read as that; else the text, for `problems`."""
    if rule["type"] == "boolean" and text in {"true", "false"}:
        return text == "true"
    if rule["type"] == "integer" and text.lstrip("-").isascii() and text.lstrip("-").isdigit() and len(text) < 20:
        return int(text)
    return text


def _problem(rule: Mapping[str, Any], value: object) -> str:
    # What is long or cannot be seen first: a pattern is held against short texts only.
    if isinstance(value, str):
        if len(value) > (most := rule.get("maxLength", MOST_CHARACTERS)):
            return f"At most {most} characters."
        try:
            no_control_characters(value)
        except ValidationError as problem:
            return str(problem.messages[0])
    elif isinstance(value, int) and abs(value) > MOST_NUMBER:
        return "This number is too large."
    errors = jsonschema.Draft202012Validator(dict(rule)).iter_errors(value)
    error = next(iter(errors), None)
    return "" if error is None else _sentence(rule, str(error.validator))


def _sentence(rule: Mapping[str, Any], broken: str) -> str:
    types = {"string": "a text", "integer": "a whole number", "boolean": "true or false"}
    match broken:
        case "type":
            return f"This must be {types[rule['type']]}."
        case "enum":
            return f"This must be one of {', '.join(map(str, rule['enum']))}."
        case "minLength":
            return f"At least {rule['minLength']} characters."
        case "minimum":
            return f"At least {rule['minimum']}."
        case "maximum":
            return f"At most {rule['maximum']}."
        case "pattern":
            return rule.get("description") or f"This must look like {rule['pattern']}."
        case _:
            return "This value cannot be used."
