"""Who may connect to a port of a reservation: its list of source addresses, which the gateway enforces."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from ipaddress import AddressValueError, IPv4Network, IPv6Network, NetmaskValueError

from django.db import transaction

from accounts import audit
from compute.models import Forward, Gateway
from compute.spec import EVERYBODY
from reservations.actions import InvalidBooking
from reservations.hints import hint_gateway_after_commit
from reservations.models import Endpoint, Reservation
from reservations.states import State
from reservations.transitions import note

MOST_SOURCES = 32
MOST_TOLD = 6  # in a sentence of the history
FIELD = "allowed_sources"
_BETWEEN = re.compile(r"[\s,;]+")


class CannotRestrict(Exception):
    """Nobody can be held back from it; the sentence says why."""

    code = "not_possible"


def split(text: str) -> list[str]:
    """The entries of a text: one a line, or with commas or blanks between them."""
    return [entry for entry in _BETWEEN.split(text) if entry]


def sources_of(entries: Iterable[str]) -> list[str]:
    """The entries as IPv4 networks without host bits, each once, in their order. Raises InvalidBooking naming the bad.

    A plain address is a network of one, 203.0.113.7/32; 203.0.113.7/24 is 203.0.113.0/24.
    """
    found: dict[str, None] = {}
    for entry in entries:
        found[str(_network(entry.strip()))] = None
    if len(found) > MOST_SOURCES:
        raise InvalidBooking({FIELD: f"At most {MOST_SOURCES} addresses and networks, and these are {len(found)}."})
    return list(found)


def _network(entry: str) -> IPv4Network:
    shown = f"“{entry[:60]}”" if entry.isprintable() else ascii(entry[:60])
    try:
        network = IPv4Network(entry, strict=False)
    except (AddressValueError, NetmaskValueError, ValueError):
        if _is_ipv6(entry):
            raise InvalidBooking({FIELD: f"{shown} is of IPv6; only IPv4 is forwarded to reservations."}) from None
        sentence = f"{shown} is no address or network: write one as 203.0.113.7 or 203.0.113.0/24."
        raise InvalidBooking({FIELD: sentence}) from None
    if str(network) == EVERYBODY:
        raise InvalidBooking({FIELD: f"{shown} is everybody: leave the list empty for that."})
    return network


def _is_ipv6(entry: str) -> bool:
    try:
        IPv6Network(entry, strict=False)
    except ValueError:
        return False
    return True


def allow(*, reservation: Reservation, endpoint: str, sources: Sequence[str], by: object, now: datetime) -> bool:
    """From now on only `sources` may connect to the port `endpoint`; none: everybody. Whether that is new.

    Who is connected from elsewhere is cut off within a moment. Raises InvalidBooking, CannotRestrict, or
    Endpoint.DoesNotExist for a port that it does not have.
    """
    wanted = sources_of(sources)
    with transaction.atomic(durable=True):
        row = Reservation.objects.select_for_update(no_key=True).get(pk=reservation.pk)
        if not row.is_live or row.state == State.ENDING:
            raise CannotRestrict("It is over; nobody reaches it any more.")
        place = Endpoint.objects.get(reservation=row, forward__name=endpoint)
        forward = Forward.objects.select_for_update(of=("self",), no_key=True).select_related("gateway")
        found = forward.get(pk=place.forward_id)
        if found.allowed_sources == wanted:
            return False
        if found.gateway.driver == Gateway.Driver.DIRECT:
            raise CannotRestrict("Its node is reached directly: there is no gateway that could hold anybody back.")
        found.allowed_sources = wanted
        found.applied = found.applied and not found.wanted  # what the gateway should have, it does not have yet
        found.save(update_fields=["allowed_sources", "applied"])
        note(row, sentence_of(endpoint, wanted), by=by, now=now)
        audit.record(
            by=by, action="reservation.allow", target=f"reservation:{row.pk}", endpoint=endpoint, sources=wanted
        )
        if found.wanted:
            hint_gateway_after_commit(found.gateway_id, found.pk)
    return True


def sentence_of(endpoint: str, sources: Sequence[str]) -> str:
    """For the history: who may connect from now on."""
    if not sources:
        return f"Port {endpoint} is open to everybody."
    shown = [plain(source) for source in sources[:MOST_TOLD]]
    more = len(sources) - len(shown)
    return f"Only {', '.join(shown)}{f' and {more} more' if more else ''} may connect to port {endpoint}."


def plain(source: str) -> str:
    """203.0.113.7 for 203.0.113.7/32, as a person writes it."""
    return source.removesuffix("/32")
