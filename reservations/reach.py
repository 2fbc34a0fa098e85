"""Whether a port answers where its customer would reach it: asked through the gateway, from the portal's machine."""

import http.client
import socket
import time
from dataclasses import dataclass

from django.core.cache import cache

from compute.log_lines import clean
from compute.models import Forward
from reservations.models import Endpoint, Reservation
from reservations.states import State

TIME_LIMIT_S = 3.0  # for the connection and for the answer together
SETTLE_S = 0.5  # a service that speaks only when spoken to has accepted, and does not hang up within this
MOST_A_MINUTE = 12  # of one user
MOST_BYTES = 512


class TooOften(Exception):
    """This user has asked a lot in this minute."""

    code = "too_often"


@dataclass(frozen=True, slots=True)
class Found:
    """What was found, in words; `tone` is green, amber or red."""

    tone: str
    sentence: str
    more: str = ""


def ask(reservation: Reservation, endpoint: Endpoint, user_id: int) -> Found:
    """Try the public address now. It takes at most about three seconds. Raises TooOften."""
    _count(user_id)
    if reservation.state != State.RUNNING:
        return Found("amber", "It does not run, so nothing answers there.", reservation.step_text)
    spec = endpoint.forward.spec
    own = _own_address(endpoint.host)
    found = probe(endpoint.host, endpoint.port, endpoint.kind)
    if spec.is_open or not own or spec.allows(own) or found.tone == "green":
        return found
    return Found(
        "amber",
        f"The portal itself ({own}) is not on the list of who may connect, so it cannot try it from here.",
        "The gateway dropped its connection, as it should. Whoever is on the list may get in all the same.",
    )


def _count(user_id: int) -> None:
    key = f"berth:reach:{user_id}:{int(time.time() // 60)}"
    cache.add(key, 0, 120)
    try:
        asked = cache.incr(key)
    except ValueError:  # it was dropped in this instant
        return
    if asked > MOST_A_MINUTE:
        raise TooOften(f"At most {MOST_A_MINUTE} tests a minute; try again in a moment.")


def _own_address(host: str) -> str:
    """The address that this machine would come from; nothing is sent for that."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.connect((host, 9))
            return str(asking.getsockname()[0])
    except OSError:
        return ""


def probe(host: str, port: int, kind: str, time_limit_s: float = TIME_LIMIT_S) -> Found:
    """What a client finds there."""
    begun = time.monotonic()
    try:
        with socket.create_connection((host, port), timeout=time_limit_s) as connection:
            ms = f"{max(1, round(1000 * (time.monotonic() - begun)))} ms"
            return _talk(connection, f"{host}:{port}", kind, begun + time_limit_s, ms)
    except TimeoutError:
        more = "The gateway or the node gives no answer, or something on the way drops the connection."
        return Found("red", f"No answer within {time_limit_s:g} s.", more)
    except ConnectionRefusedError:
        more = "The machine is there, and nothing listens on this port: the service may be starting still, or over."
        return Found("red", "The connection was refused.", more)
    except OSError as problem:
        return Found("red", f"It cannot be reached: {problem.strerror or problem}.")


def _talk(connection: socket.socket, address: str, kind: str, until: float, ms: str) -> Found:
    if kind == Forward.Kind.HTTP:
        connection.sendall(f"GET / HTTP/1.0\r\nHost: {address}\r\nUser-Agent: berth-reachability\r\n\r\n".encode())
        said, closed = _first_line(connection, until)
        words = said.split(" ", 2)
        if not said.startswith("HTTP/") or len(words) < 2 or not words[1][:3].isdecimal():
            return _not_as_awaited(said, closed, "HTTP")
        number = int(words[1][:3])
        answer = f"HTTP {number} {http.client.responses.get(number, '')}".strip()
        tone = "green" if number < 500 else "amber"
        return Found(tone, f"It answers: {answer}, connected within {ms}.")
    if kind == Forward.Kind.SSH:
        said, closed = _first_line(connection, until)
        if not said.startswith("SSH-"):
            return _not_as_awaited(said, closed, "SSH")
        return Found("green", f"It answers: {said[:80]}, connected within {ms}.")
    said, closed = _first_line(connection, min(until, time.monotonic() + SETTLE_S))
    if closed and not said:
        return Found("amber", "It accepts connections and hangs up at once.", "The service behind it may have ended.")
    return Found("green", f"It accepts connections, within {ms}.")


def _not_as_awaited(said: str, closed: bool, what: str) -> Found:
    if said:
        return Found("amber", f"Something answers, and it is not {what}: {said[:80]}")
    if closed:
        return Found("amber", "It accepts connections and hangs up without a word.", "It may still be starting.")
    return Found("amber", f"It accepts connections and says nothing within {TIME_LIMIT_S:g} s.", "It may be busy.")


def _first_line(connection: socket.socket, until: float) -> tuple[str, bool]:
    """What it says first, harmless, and whether it hung up; however slowly it speaks."""
    said, closed = b"", False
    while b"\n" not in said and len(said) < MOST_BYTES and not closed:
        left = until - time.monotonic()
        if left <= 0:
            break
        connection.settimeout(left)
        try:
            piece = connection.recv(MOST_BYTES)
        except TimeoutError:
            break
        except OSError:  # reset
            piece = b""
        said, closed = said + piece, not piece
    return clean(said.partition(b"\n")[0][:MOST_BYTES]), closed
