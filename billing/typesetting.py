"""HTML to PDF by WeasyPrint, in a process of its own.

So the libraries (100 MiB and more) are in no web server or worker, a long invoice keeps none of their threads waiting,
and what typesets knows no secret: it gets HTML on its standard input and an environment without ours. It is started
when the first PDF is wanted and ends when none was for a minute. Run as a file, this is that process; it imports no
Django.
"""

import atexit
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

STYLE = Path(__file__).resolve().parent.parent / "static/berth/invoice-print.css"
LIMIT_S = 120  # for one document, and as much again for each million characters: 9,000 lines take two minutes
IDLE_S = 60.0
MOST_MEMORY = 2 * 1024**3
_LENGTH = struct.Struct(">cI")  # "P": a PDF; "E": why there is none
_lock = threading.RLock()  # who has the turn may look again whether there is anything to make
_child: subprocess.Popen[bytes] | None = None
_owner = 0  # who started it
_idle: threading.Timer | None = None


class CannotTypeset(Exception):
    """There is no PDF; the sentence says why."""


class Later(CannotTypeset):
    """Not now, but soon; the sentence is for who asked."""


@contextmanager
def turn(wait_s: float | None = None) -> Iterator[None]:
    """One document after the other, in each of our processes. Raises Later when it takes longer than `wait_s`."""
    if not _lock.acquire(timeout=-1 if wait_s is None else wait_s):
        raise Later("Other documents are being made; try again in a moment.")
    try:
        yield
    finally:
        _lock.release()


def limit_s(html: str) -> float:
    return LIMIT_S * (1 + len(html) / 1_000_000)


def pdf(html: str) -> bytes:
    """Raises CannotTypeset."""
    limit = limit_s(html)
    with turn():
        child = _running()
        alarm = threading.Timer(limit, child.kill)
        alarm.start()
        try:
            assert child.stdin is not None and child.stdout is not None  # noqa: S101, PT018 - both are pipes
            _write(child.stdin, b"H", html.encode())
            kind, answer = _read(child.stdout)
        except OSError as problem:
            end()
            raise CannotTypeset(
                f"The process that makes PDFs ended or took over {limit:.0f} s ({problem})."
            ) from problem
        finally:
            alarm.cancel()
            _end_when_idle()
    if kind != b"P":
        raise CannotTypeset(answer.decode(errors="replace"))
    return answer


def end() -> None:
    """End the process; the next PDF starts another."""
    global _child
    child, _child = _child, None
    if child is not None:
        child.kill()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with suppress(OSError):  # what it did not take any more is still in the buffer
                    pipe.close()
        child.wait()


def _running() -> subprocess.Popen[bytes]:
    global _child, _owner
    if _owner != os.getpid():
        _child, _owner = None, os.getpid()  # forked: the process belongs to the one before
        atexit.register(end)
    if _child is not None and _child.poll() is not None:
        end()  # it died
    if _child is None:
        _child = subprocess.Popen(
            [sys.executable, "-I", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
        )
    return _child


def _end_when_idle() -> None:
    global _idle
    if _idle is not None:
        _idle.cancel()
    _idle = threading.Timer(IDLE_S, _end_idle)
    _idle.daemon = True
    _idle.start()


def _end_idle() -> None:
    if _lock.acquire(blocking=False):  # else it is at work, and looks again afterwards
        try:
            end()
        finally:
            _lock.release()


def _write(pipe: IO[bytes], kind: bytes, content: bytes) -> None:
    pipe.write(_LENGTH.pack(kind, len(content)) + content)
    pipe.flush()


def _read(pipe: IO[bytes]) -> tuple[bytes, bytes]:
    """Raises EOFError, an OSError here, when the other side is gone."""
    kind, length = _LENGTH.unpack(_exactly(pipe, _LENGTH.size))
    return kind, _exactly(pipe, length)


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    got = pipe.read(count)
    if len(got) < count:
        raise ConnectionResetError("nothing more came")
    return got


# ---- in the process of its own ------------------------------------------------------------------------------


def serve() -> None:
    """Answer each document with its PDF, until nobody writes any more."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    os.nice(5)  # bookings go first
    typeset = _typesetter()
    while True:
        try:
            _, html = _read(sys.stdin.buffer)
        except OSError:
            return
        try:
            answer = b"P", typeset(html.decode())
        except Exception as problem:  # noqa: BLE001 - told to who asked
            answer = b"E", f"{type(problem).__name__}: {problem}".encode()
        _write(sys.stdout.buffer, *answer)


def _typesetter() -> Any:
    import weasyprint
    from weasyprint.urls import URLFetcher

    class NothingFetched(URLFetcher):  # type: ignore[misc]  # WeasyPrint has no types
        """An invoice refers to nothing; whatever a page names, on the network or this machine, is refused."""

        def fetch(self, url: str, headers: Any = None) -> Any:
            raise ValueError(f"nothing is taken from elsewhere, not {url[:200]}")

    refuse = NothingFetched()
    style = weasyprint.CSS(string=STYLE.read_text(encoding="utf-8"), url_fetcher=refuse)

    def typeset(html: str) -> Any:
        document = weasyprint.HTML(string=html, url_fetcher=refuse)
        return document.write_pdf(stylesheets=[style], pdf_tags=True)

    return typeset


if __name__ == "__main__":
    serve()
