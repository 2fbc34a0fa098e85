"""What the page shows of each port: where it is, how to connect, who may."""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from compute.spec import allows
from reservations.access import plain
from reservations.models import Endpoint, Reservation

HIDDEN = "••••"


@dataclass(frozen=True, slots=True)
class Command:
    """A line to be copied. `secret`: it holds a credential, which is hidden unless it was asked for."""

    text: str
    secret: bool


@dataclass(frozen=True, slots=True)
class Card:
    """One port. `typed` is what stands in the field of its allowed sources, `problem` what is wrong with that.

    `unsaved`: it is not what was saved last.
    """

    endpoint: Endpoint
    commands: tuple[Command, ...]
    typed: str
    unsaved: bool = False
    problem: str = ""

    @property
    def sources(self) -> list[str]:
        return [plain(source) for source in self.endpoint.forward.allowed_sources]

    @property
    def restricted(self) -> bool:
        return bool(self.endpoint.forward.allowed_sources)

    @property
    def on_its_way(self) -> bool:
        """Whether the gateway does not have yet what was asked for last."""
        return self.endpoint.forward.wanted and not self.endpoint.forward.applied

    def lets_in(self, address: str) -> bool:
        """Whether a client of this address may come in; one of IPv6 comes by IPv4, from who knows where."""
        return ":" in address or allows(self.endpoint.forward.allowed_sources, address)


def cards(
    reservation: Reservation,
    *,
    revealed: bool = False,
    typed: Mapping[str, str] = MappingProxyType({}),
    problems: Mapping[str, str] = MappingProxyType({}),
) -> list[Card]:
    """A card for each port. By its name: what somebody wrote into its field and did not save, and what was wrong."""
    endpoints = list(reservation.endpoints.all())
    if not endpoints:
        return []
    commands = _commands(reservation, endpoints, revealed)
    return [
        Card(
            endpoint,
            tuple(commands.get(endpoint.name, ())),
            typed.get(endpoint.name, "\n".join(plain(source) for source in endpoint.forward.allowed_sources)),
            endpoint.name in typed,
            problems.get(endpoint.name, ""),
        )
        for endpoint in endpoints
    ]


def _commands(reservation: Reservation, endpoints: Sequence[Endpoint], revealed: bool) -> dict[str, list[Command]]:
    """By the name of the port that each is about: the one that it names, or else the first."""
    credentials = reservation.credentials
    values = {"host": endpoints[0].host, "port": str(endpoints[0].port)}
    values |= {f"port_{endpoint.name}": str(endpoint.port) for endpoint in endpoints}
    values |= credentials if revealed else dict.fromkeys(credentials, HIDDEN)
    found: dict[str, list[Command]] = {}
    for template in reservation.service.connect:
        names = {name for _, name, _, _ in string.Formatter().parse(template) if name}
        about = next((e.name for e in endpoints if f"port_{e.name}" in names), endpoints[0].name)
        known = values | dict.fromkeys(names - values.keys(), "?")
        found.setdefault(about, []).append(Command(template.format_map(known), bool(names & credentials.keys())))
    return found
