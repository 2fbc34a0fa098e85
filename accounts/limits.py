"""Guessing at API tokens is slow from any one address."""

import hashlib
import ipaddress

from allauth.account.adapter import get_adapter
from django.core.cache import cache
from django.http import HttpRequest

MOST_WRONG_TOKENS = 30  # different ones, from one address
WINDOW_S = 60


def guessed_too_often(request: HttpRequest) -> bool:
    """Whether this address has tried so many wrong tokens that it is heard no more for a while."""
    return int(cache.get(_count_key(request)) or 0) >= MOST_WRONG_TOKENS


def note_wrong_token(request: HttpRequest, token: str) -> None:
    """Counts a token that is none. The same one again counts once: a forgotten script shuts nobody's office out."""
    key = _count_key(request)
    digest = hashlib.sha256(token.encode()).hexdigest()[:32]
    if cache.add(f"{key}:{digest}", 1, WINDOW_S):
        cache.add(key, 0, WINDOW_S)
        try:
            cache.incr(key)
        except ValueError:  # the window ended just now
            cache.set(key, 1, WINDOW_S)


def _count_key(request: HttpRequest) -> str:
    """The address as the rate limits of the pages count it: behind our proxies, and a whole /64 of IPv6 as one."""
    address = ipaddress.ip_address(get_adapter(request).get_client_ip(request))
    if address.version == 6:
        address = ipaddress.ip_network(f"{address}/64", strict=False).network_address
    return f"berth:wrong-tokens:{address}"
