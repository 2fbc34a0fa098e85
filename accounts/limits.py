"""Guessing at API tokens is slow from any one address."""

import hashlib
import ipaddress

from allauth.account.adapter import get_adapter
from django.core.cache import cache
from django.http import HttpRequest

MOST_WRONG_TOKENS = 30  # different ones, from one address
WINDOW_S = 60
KNOWN_S = 24 * 60 * 60


def guessed_too_often(request: HttpRequest) -> bool:
    """Whether this address has tried so many wrong tokens that it is heard no more for a while."""
    return int(cache.get(_count_key(request)) or 0) >= MOST_WRONG_TOKENS


def is_known(request: HttpRequest, token: str) -> bool:
    """Whether this token was good at this address lately: who guesses from an office shuts its programs not out."""
    return bool(cache.get(_known_key(request, token)))


def note_good_token(request: HttpRequest, token: str) -> None:
    """The token is heard from this address, whoever else guesses there."""
    cache.add(_known_key(request, token), 1, KNOWN_S)


def note_wrong_token(request: HttpRequest, token: str) -> None:
    """Counts a token that is none. The same one again counts once: a forgotten script shuts nobody's office out."""
    key = _count_key(request)
    if cache.add(f"{key}:{_digest(token)}", 1, WINDOW_S):
        cache.add(key, 0, WINDOW_S)
        try:
            cache.incr(key)
        except ValueError:  # the window ended just now
            cache.set(key, 1, WINDOW_S)


def _count_key(request: HttpRequest) -> str:
    return f"berth:wrong-tokens:{_caller(request)}"


def _known_key(request: HttpRequest, token: str) -> str:
    return f"berth:known-tokens:{_caller(request)}:{_digest(token)}"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:32]


def _caller(request: HttpRequest) -> str:
    """The address as the rate limits of the pages count it: behind our proxies, and a whole /64 of IPv6 as one."""
    address = ipaddress.ip_address(get_adapter(request).get_client_ip(request))
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:  # as a socket for both kinds tells of IPv4, all of which is one /64
            return str(address.ipv4_mapped)
        address = ipaddress.IPv6Network((address.packed, 64), strict=False).network_address
    return str(address)


def is_over(name: str, most: int) -> bool:
    """Counts one more of this name; whether those are more than `most` within the minute."""
    key = f"berth:counted:{name}"
    cache.add(key, 0, WINDOW_S)
    try:
        return int(cache.incr(key)) > most
    except ValueError:  # the window ended just now
        cache.set(key, 1, WINDOW_S)
        return most < 1


def is_over_here(request: HttpRequest, name: str, most: int) -> bool:
    """The same for the address that asks."""
    return is_over(f"{name}:{_caller(request)}", most)


def was_over_here(request: HttpRequest, name: str, most: int) -> bool:
    """Whether this address had more than `most` within the minute; counts nothing."""
    return int(cache.get(f"berth:counted:{name}:{_caller(request)}") or 0) > most
