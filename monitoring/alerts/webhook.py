"""Posts JSON to the webhook: signed, within a time limit, and never further than to the address that was named."""

import hashlib
import hmac
import http.client
import json
import re
import socket
import threading
import urllib.error
import urllib.request
from contextlib import suppress
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
    """Whether this is an http(s) address of some host, without a user or password, in printable ASCII."""
    try:
        parts = urlsplit(address)
        known = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False
    return known and "@" not in parts.netloc and re.fullmatch("[!-~]+", address) is not None


def host_of(address: str) -> str:
    """For people: an address may hold a secret."""
    return urlsplit(address).hostname or ""


def signature(body: bytes, secret: str) -> str:
    """HMAC-SHA256 of the body, as "sha256=" and hex."""
    return f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"


def post(address: str, content: dict[str, Any], *, message: str, secret: str, timeout_s: float = TIMEOUT_S) -> None:
    """Send it once. Raises Refused, NotSent or Unsure, without the address; a redirect is refused."""
    if not is_address(address):
        raise Refused("the address of the webhook is no http(s) address, or has a user or password in it")
    body = json.dumps(content).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "Berth", MESSAGE: message}
    if secret:
        headers[SIGNATURE] = signature(body, secret)
    exchange = _Exchange(_Request(address, body, headers, method="POST"), timeout_s)
    try:
        exchange.finish()
    except urllib.error.HTTPError as answer:
        answer.close()
        raise Refused(f"it answered {answer.code}", answer.code) from None
    except urllib.error.URLError as problem:  # before anything was sent, but for a time limit that was met
        if isinstance(problem.reason, TimeoutError):
            raise Unsure("no answer in time") from problem
        raise NotSent(str(problem.reason)) from problem
    except (http.client.InvalidURL, UnicodeError):  # what they say quotes the address
        raise Refused("the address of the webhook cannot be used") from None
    except (OSError, http.client.HTTPException) as problem:
        raise Unsure(f"no answer: {type(problem).__name__} {problem}".strip()) from problem


class _Request(urllib.request.Request):
    """Knows its connection while it is under way."""

    connection: http.client.HTTPConnection | None = None


class _Exchange(threading.Thread):
    """A request and its answer, in a thread: the limit of a socket is for each byte that comes, not for all."""

    def __init__(self, request: _Request, timeout_s: float) -> None:
        super().__init__(name="webhook", daemon=True)
        self._request, self._timeout_s = request, timeout_s
        self._problem: Exception | None = None

    def finish(self) -> None:
        """Have it done within the limit, or else cut it off. Raises what urllib raises, or Unsure."""
        self.start()
        self.join(self._timeout_s)
        if self.is_alive():
            self._cut()
            raise Unsure("no answer in time")
        if self._problem is not None:
            raise self._problem

    def run(self) -> None:
        try:
            _opener.open(self._request, timeout=self._timeout_s).close()
        except Exception as problem:  # noqa: BLE001 - it is for who waits
            self._problem = problem

    def _cut(self) -> None:
        """The thread ends with it."""
        connection = self._request.connection
        if connection is not None and (sock := connection.sock) is not None:
            with suppress(OSError):  # closed meanwhile
                sock.shutdown(socket.SHUT_RDWR)


class _Connects(urllib.request.AbstractHTTPHandler):
    def do_open(self, http_class: Any, req: Any, **options: Any) -> http.client.HTTPResponse:
        def connect(*args: Any, **more: Any) -> http.client.HTTPConnection:
            req.connection = http_class(*args, **more)
            return req.connection  # type: ignore[no-any-return]

        return super().do_open(connect, req, **options)


class _Plain(_Connects, urllib.request.HTTPHandler):
    pass


class _Sealed(_Connects, urllib.request.HTTPSHandler):
    pass


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_opener = urllib.request.OpenerDirector()
for _handler in (
    urllib.request.ProxyHandler,
    _Plain,
    _Sealed,
    urllib.request.HTTPDefaultErrorHandler,
    urllib.request.HTTPErrorProcessor,
    _NoRedirect,
):
    _opener.add_handler(_handler())
