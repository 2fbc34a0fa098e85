"""What settings say of the provider and its groups. Plain functions on values: no Django, so settings may call them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

ROLES = ("member", "manager", "owner")  # the weakest first
LONGEST_ISSUER = 200  # it is kept with each account that the provider opened
LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class GroupRule:
    """Who is in this group of the provider has this role in this workspace."""

    group: str
    workspace: str
    role: str


def issuer_problem(issuer: str, plain_http: bool) -> str:
    """Why this cannot be a provider's issuer; empty when it can."""
    parts = urlsplit(issuer)
    if parts.scheme not in {"https", "http"} or not parts.hostname or parts.query or parts.fragment or parts.username:
        return "must be the provider's issuer, such as https://login.example.org/realms/main"
    if parts.scheme == "http" and not plain_http:
        return "must begin with https://: over plain http anybody on the way could log in as everybody"
    return f"is longer than {LONGEST_ISSUER} characters" if len(issuer) > LONGEST_ISSUER else ""


def parse_groups(text: str) -> tuple[GroupRule, ...]:
    """`physics=Physics lab:member,physics-staff=Physics lab:manager`. Raises ValueError with a sentence."""
    rules = []
    for part in (part.strip() for part in text.split(",")):
        if not part:
            continue
        group, equals, rest = part.partition("=")
        workspace, colon, role = (word.strip() for word in rest.rpartition(":"))
        if not equals or not colon or not group.strip() or not workspace:
            raise ValueError(f"must be GROUP=WORKSPACE:ROLE, separated by commas, not {part!r}")
        if role not in ROLES:
            raise ValueError(f"names the role {role!r}; there are {', '.join(ROLES)}")
        if len(workspace) > LONGEST_NAME or not workspace.isprintable():
            raise ValueError(f"names a workspace that cannot be: {workspace[:LONGEST_NAME]!r}")
        rules.append(GroupRule(group.strip(), workspace, role))
    return tuple(rules)


def groups_in(claims: Mapping[str, Any], name: str) -> list[str]:
    """The groups in a provider's answer; `name` may lead into objects (realm_access.roles)."""
    value: Any = claims.get(name)
    if value is None:
        value = claims
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, str):
        return [value]
    return sorted({entry for entry in value if isinstance(entry, str)}) if isinstance(value, list) else []


def in_one(claims: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """What the ID token and the user's page say together; the page is the newer.

    Whether an address was confirmed is only believed of the address that it was said of.
    """
    found = {**claims, **more}
    if "email" in more and "email_verified" in more:
        return found
    found.pop("email_verified", None)
    if "email_verified" in claims and found.get("email") == claims.get("email"):
        found["email_verified"] = claims["email_verified"]
    return found


def wanted_roles(rules: Iterable[GroupRule], groups: Iterable[str]) -> dict[str, str]:
    """For each workspace that these groups lead into, the strongest role."""
    mine, found = set(groups), dict[str, str]()
    for rule in rules:
        if rule.group in mine:
            found[rule.workspace] = max(found.get(rule.workspace, ROLES[0]), rule.role, key=ROLES.index)
    return found
