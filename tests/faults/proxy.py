"""A fault proxy between the workers and the nodes' engines: loses, delays, cuts and holds chosen calls.

It ends TLS on both sides with the lab's own certificates, so it sees which call it is; what it does not disturb
passes byte for byte. Each node has a port here. Calls on one connection come one after the other, so a request
begins a new exchange and everything else belongs to the one under way.
"""

import contextlib
import os
import re
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from lab import Lab
from lab.info import NodeInfo

CREATE = r"POST /v[\d.]+/containers/create\b"
START = r"POST /v[\d.]+/containers/[^/]+/start\b"
PULL = r"POST /v[\d.]+/images/create\b"
REMOVE = r"DELETE /v[\d.]+/containers/"
ANY = r"[A-Z]+ /"
_REQUEST = re.compile(rb"(?:GET|POST|PUT|DELETE|HEAD) /\S* HTTP/1\.1\r\n")
_PART = 65536
_LONGEST_S = 120.0  # nothing is held longer than this, whatever a test forgets


Hook = Callable[[str], object]


def _nothing(node: str) -> None:
    del node


class Mode(StrEnum):
    """What becomes of a call. A black hole leaves its caller waiting; a cut tells him at once (RST)."""

    PASS = "pass"  # undisturbed; for the hooks
    HOLD = "hold"  # not sent on until released
    SWALLOW = "swallow"  # done by the engine; the answer goes into a black hole
    CUT_BEFORE = "cut before"  # never reaches the engine
    CUT_AFTER = "cut after"  # done by the engine; the connection is cut instead of an answer
    DELAY = "delay"  # done, and answered some seconds late
    HANG = "hang"  # never reaches the engine, and nobody says so


@dataclass
class Trouble:
    """What happens to the next `times` calls that match. `seen` is set as soon as the first one was disturbed.

    The hooks hear the name of the node: `before` a call is sent on, `during` (sent, not answered), `after` the answer.
    """

    mode: Mode
    pattern: re.Pattern[str]
    times: int
    seconds: float
    before: Hook
    during: Hook
    after: Hook
    calls: int = 0
    seen: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def wait_seen(self, seconds: float = 30) -> None:
        if not self.seen.wait(seconds):
            raise AssertionError(f"no call matched {self.pattern.pattern} within {seconds:g} s")

    def release(self) -> None:
        """Let go what is held, and disturb nothing from now on."""
        self.times = 0
        self.released.set()


class EngineProxy:
    """One port for each node of the lab; `urls` are what Berth has to call instead of the engines."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._lock = threading.Lock()
        self._troubles: list[Trouble] = []
        self._open: set[socket.socket] = set()
        self._closed = False
        self._listeners = {node.name: _listen() for node in lab.info.nodes}
        self.urls = {name: f"tcp://127.0.0.1:{listener.getsockname()[1]}" for name, listener in self._listeners.items()}
        for node in lab.info.nodes:
            threading.Thread(target=self._serve, args=(node,), daemon=True).start()

    def disturb(
        self,
        mode: Mode,
        call: str,
        *,
        times: int = 1,
        seconds: float = 0,
        before: Hook = _nothing,
        during: Hook = _nothing,
        after: Hook = _nothing,
    ) -> Trouble:
        """From now on, on whatever node the next such call comes."""
        trouble = Trouble(mode, re.compile(call), times, seconds, before, during, after)
        with self._lock:
            self._troubles.append(trouble)
        return trouble

    def heal(self) -> None:
        """Everything passes again; what was held goes on, and what hangs is cut."""
        with self._lock:
            troubles, self._troubles = self._troubles, []
        for trouble in troubles:
            trouble.release()

    def close(self) -> None:
        self._closed = True
        self.heal()
        for listener in self._listeners.values():
            listener.shutdown(socket.SHUT_RDWR)  # closing alone does not wake who waits in accept
            listener.close()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, node: NodeInfo) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own = self._lab.store.secrets / f"tls-{node.address}"  # also names 127.0.0.1
        context.load_cert_chain(own / "cert.pem", own / "key.pem")
        context.load_verify_locations(own / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        while not self._closed:
            try:
                accepted, _ = self._listeners[node.name].accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(accepted, context, node), daemon=True).start()

    def _relay(self, accepted: socket.socket, context: ssl.SSLContext, node: NodeInfo) -> None:
        accepted.settimeout(_LONGEST_S)
        with contextlib.suppress(OSError), contextlib.ExitStack() as ends:
            ends.callback(accepted.close)
            upstream = ends.enter_context(self._dial(node))
            caller = ends.enter_context(context.wrap_socket(accepted, server_side=True))
            with self._lock:
                self._open |= {caller, upstream}
            ends.callback(self._forget, caller, upstream)
            _Exchange(self, node.name, caller, upstream).run()

    def _forget(self, *connections: socket.socket) -> None:
        with self._lock:
            self._open -= set(connections)

    def _dial(self, node: NodeInfo) -> ssl.SSLSocket:
        keys = self._lab.store.portal / "tls"
        context = ssl.create_default_context(cafile=str(keys / "ca.pem"))
        context.load_cert_chain(keys / "cert.pem", keys / "key.pem")
        place = urlsplit(node.engine_url)
        assert place.port is not None
        raw = socket.create_connection((node.address, place.port), timeout=5)
        raw.settimeout(_LONGEST_S)
        return context.wrap_socket(raw, server_hostname=node.address)

    def trouble_for(self, request: bytes) -> Trouble | None:
        line = request.split(b"\r\n", 1)[0].decode(errors="replace")
        with self._lock:
            for trouble in self._troubles:
                if trouble.times > 0 and trouble.pattern.match(line):
                    trouble.times -= 1
                    trouble.calls += 1
                    return trouble
        return None


class _Exchange:
    """One connection, both ways, by one thread: an SSL connection may not be read and written at once."""

    def __init__(self, proxy: EngineProxy, node: str, caller: ssl.SSLSocket, upstream: ssl.SSLSocket) -> None:
        self.proxy, self.node, self.caller, self.upstream = proxy, node, caller, upstream
        self.trouble: Trouble | None = None

    def run(self) -> None:
        while True:
            for source in self._readable():
                source.settimeout(0)
                try:
                    part = source.recv(_PART)
                except ssl.SSLWantReadError:  # a message of TLS itself, or half a record
                    continue
                finally:
                    source.settimeout(_LONGEST_S)
                if not part:
                    return
                goes_on = self._ask(part) if source is self.caller else self._answer(part)
                if not goes_on:
                    return

    def _readable(self) -> list[ssl.SSLSocket]:
        waiting = [end for end in (self.caller, self.upstream) if end.pending()]
        return waiting or select.select([self.caller, self.upstream], [], [], _LONGEST_S)[0]

    def _ask(self, part: bytes) -> bool:
        """A piece from the caller goes on to the engine; whether the connection lives on."""
        begins = _REQUEST.match(part)
        if begins:
            self.trouble = self.proxy.trouble_for(part)
            if self.trouble and not self._begin(self.trouble):
                return False
        self.upstream.sendall(part)
        if begins and self.trouble:
            self.trouble.during(self.node)
        return True

    def _begin(self, trouble: Trouble) -> bool:
        trouble.before(self.node)
        if trouble.mode == Mode.CUT_BEFORE:
            self._reset()
        if trouble.mode in {Mode.HOLD, Mode.HANG, Mode.CUT_BEFORE}:
            trouble.seen.set()
        if trouble.mode in {Mode.HOLD, Mode.HANG}:
            trouble.released.wait(_LONGEST_S)
        return trouble.mode not in {Mode.HANG, Mode.CUT_BEFORE}

    def _answer(self, part: bytes) -> bool:
        """A piece from the engine goes back to the caller, unless something is to happen to it."""
        trouble, self.trouble = self.trouble, None
        if trouble:
            trouble.after(self.node)
            trouble.seen.set()
            if trouble.mode == Mode.CUT_AFTER:
                self._reset()
                return False
            if trouble.mode == Mode.SWALLOW:
                trouble.released.wait(_LONGEST_S)
                return False
            if trouble.mode == Mode.DELAY:
                trouble.released.wait(trouble.seconds)
        self.caller.sendall(part)
        return True

    def _reset(self) -> None:
        """End the connection as a broken one ends: with RST, not with a farewell."""
        self.caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.caller.detach())


def _listen() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=64)
