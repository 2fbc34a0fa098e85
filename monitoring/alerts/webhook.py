"""Posts JSON to the webhook: signed, within a time limit, and never further than to the address that was named."""

import hashlib
import hmac
import http.client
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 5.0
SIGNATURE = "Berth-Signature"
MESSAGE = "Berth-Message"  # the same when it is sent again: by it a receiver tells what it has already


class Refused(Exception):
    """The receiver answered, and did not take it; `status` is of HTTP, 0 when it was not asked."""

    def __init__(self, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


class NotSent(Exception):
    """It certainly did not arrive: nobody was there."""


class Unsure(Exception):
    """It was sent, and no answer came: it may have arrived."""


def is_address(address: str) -> bool:
    """Whether this is an http(s) address of some host."""
    try:
        parts = urlsplit(address)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def host_of(address: str) -> str:
    """For people: an address may hold a secret."""
    return urlsplit(address).hostname or ""


def signature(body: bytes, secret: str) -> str:
    """HMAC-SHA256 of the body, as "sha256=" and hex."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def post(address: str, content: dict[str, Any], *, message: str, secret: str, timeout_s: float = TIMEOUT_S) -> None:
    """Send it once. Raises Refused, NotSent or Unsure; a redirect is refused."""
    if not is_address(address):
        raise Refused("the address of the webhook is no http(s) address")
    body = json.dumps(content).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "Berth", MESSAGE: message}
    if secret:
        headers[SIGNATURE] = signature(body, secret)
    request = urllib.request.Request(address, body, headers, method="POST")  # noqa: S310 - is_address has looked
    try:
        with _opener.open(request, timeout=timeout_s):
            return
    except urllib.error.HTTPError as answer:
        answer.close()
        raise Refused(f"it answered {answer.code}", answer.code) from None
    except urllib.error.URLError as problem:  # before anything was sent, but for a time limit that was met
        if isinstance(problem.reason, TimeoutError):
            raise Unsure("no answer in time") from problem
        raise NotSent(str(problem.reason)) from problem
    except (OSError, http.client.HTTPException) as problem:
        raise Unsure(f"no answer: {type(problem).__name__} {problem}".strip()) from problem


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_opener = urllib.request.OpenerDirector()
for _handler in (
    urllib.request.ProxyHandler,
    urllib.request.HTTPHandler,
    urllib.request.HTTPSHandler,
    urllib.request.HTTPDefaultErrorHandler,
    urllib.request.HTTPErrorProcessor,
    _NoRedirect,
):
    _opener.add_handler(_handler())
