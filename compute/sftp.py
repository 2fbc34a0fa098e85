"""What the sftp program cannot do: read and write parts of large files, many requests under way at once.

Version 3 of the protocol, as OpenSSH speaks it (draft-ietf-secsh-filexfer-02). A file that is written leaves holes
where nothing is written, so that sparse images stay sparse.
"""

import struct
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from compute.shell import CommandFailed, Host, NoAnswer

_INIT, _OPEN, _CLOSE, _READ, _WRITE, _FSETSTAT, _REMOVE, _STAT, _RENAME = 1, 3, 4, 5, 6, 10, 13, 17, 18
_STATUS, _HANDLE, _DATA, _ATTRS = 101, 102, 103, 105
_FOR_READING, _FOR_WRITING, _MAKE = 1, 2, 8
_OK, _END_OF_FILE, _NO_SUCH_FILE = 0, 1, 2
_WITH_SIZE, _WITH_OWNER, _WITH_MODE, _WITH_TIMES = 1, 2, 4, 8
_PART = 128 * 1024  # every OpenSSH takes 256 KiB for a packet
_UNDER_WAY = 48
SILENT_FOR_S = 30.0  # no answer for so long, however large the file is


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Of a file there: its size in bytes, and when it was last written to (unix seconds)."""

    size: int
    written_at: int


def read_at(server: Host, path: str, offset: int, length: int, *, timeout_s: float = 20) -> bytes | None:
    """These bytes of the file, fewer at its end; None when there is no such file. Raises CommandFailed or NoAnswer."""
    with session(server, silent_for_s=timeout_s) as there:
        try:
            return b"".join(there.read(path, offset, offset + length))
        except FileNotFoundError:
            return None


@contextmanager
def session(server: Host, *, silent_for_s: float = SILENT_FOR_S) -> Iterator["Session"]:
    """A conversation with the server's sftp. Raises NoAnswer when it ends, or says nothing for so long."""
    command = server.subsystem("sftp")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as ssh:
        watch = _Watch(ssh, silent_for_s)
        try:
            if ssh.stdin is None or ssh.stdout is None:
                raise EOFError
            yield Session(server.target, ssh.stdin, ssh.stdout, watch)
        except EOFError as problem:
            raise NoAnswer(f"{server.target} did not answer within {silent_for_s:g} s, or ended the talk") from problem
        finally:
            watch.stop()
            ssh.kill()


class _Watch:
    """Ends the program when nobody fed the watch for some time: whoever waits for it gets the end of the file."""

    def __init__(self, program: "subprocess.Popen[bytes]", seconds: float) -> None:
        self.program, self.seconds = program, seconds
        self.fed, self.over = threading.Event(), False
        threading.Thread(target=self._run, name="sftp watch", daemon=True).start()

    def feed(self) -> None:
        self.fed.set()

    def stop(self) -> None:
        self.over = True
        self.fed.set()

    def _run(self) -> None:
        while not self.over:
            self.fed.clear()
            if not self.fed.wait(self.seconds) and not self.over:
                self.program.kill()
                return


class Session:
    """Files of the server. All raise CommandFailed when it says no, FileNotFoundError where there is none."""

    def __init__(self, where: str, to: IO[bytes], back: IO[bytes], watch: _Watch) -> None:
        self.where, self.to, self.back, self.watch = where, to, back, watch
        self.number = 0
        self._send(_INIT, struct.pack(">I", 3), numbered=False)
        self._receive()

    def facts(self, path: str) -> FileFacts | None:
        """None when there is no such file."""
        kind, body = self._ask(_STAT, _text(path.encode()))
        if kind == _STATUS and _status(body) == _NO_SUCH_FILE:
            return None
        if kind != _ATTRS:
            raise self._refused(body, f"{path} cannot be looked at")
        return _facts(body)

    def read(self, path: str, start: int, end: int) -> Iterator[bytes]:
        """The bytes of [start, end) in order, in parts; fewer when the file ends before."""
        handle = self._open(path, _FOR_READING)
        waiting: deque[tuple[int, int]] = deque()
        asked, ended = start, False
        try:
            while waiting or (asked < end and not ended):
                while asked < end and len(waiting) < _UNDER_WAY and not ended:
                    length = min(_PART, end - asked)
                    self._send(_READ, handle + struct.pack(">QI", asked, length))
                    waiting.append((asked, length))
                    asked += length
                offset, length = waiting.popleft()
                found = self._part(path)
                if found and not ended:
                    yield found
                    if len(found) < length:  # a short answer in the midst of a file: the rest is asked for anew
                        self._drop(waiting)
                        asked = offset + len(found)
                ended = ended or not found
        finally:
            self._drop(waiting)
            self._ask(_CLOSE, handle)

    def _part(self, path: str) -> bytes:
        """Of an answer to READ; empty at the end of the file."""
        kind, body = self._receive()
        if kind == _STATUS and _status(body) == _END_OF_FILE:
            return b""
        if kind != _DATA:
            raise self._refused(body, f"{path} cannot be read")
        return body[4:]

    def _drop(self, waiting: "deque[tuple[int, int]]") -> None:
        """Take the answers that nobody wants any more, or the next question would get them."""
        while waiting:
            waiting.popleft()
            self._receive()

    @contextmanager
    def writing(self, path: str) -> Iterator["Writing"]:
        """Write into the file, which is made when it is not there; what it holds elsewhere stays."""
        handle = self._open(path, _FOR_WRITING | _MAKE)
        file = Writing(self, handle, path)
        try:
            yield file
            file.finish()
        finally:
            file.drop()
            self._ask(_CLOSE, handle)

    def rename(self, old: str, new: str) -> None:
        """Never over a file that is there: that is CommandFailed."""
        self._done(_RENAME, _text(old.encode()) + _text(new.encode()), f"{old} cannot become {new}")

    def remove(self, path: str) -> None:
        self._done(_REMOVE, _text(path.encode()), f"{path} cannot be removed")

    def _open(self, path: str, how: int) -> bytes:
        mode = struct.pack(">II", _WITH_MODE, 0o600) if how & _MAKE else struct.pack(">I", 0)
        kind, body = self._ask(_OPEN, _text(path.encode()) + struct.pack(">I", how) + mode)
        if kind == _STATUS and _status(body) == _NO_SUCH_FILE:
            raise FileNotFoundError(f"{self.where} has no {path}")
        if kind != _HANDLE:
            raise self._refused(body, f"{path} cannot be opened")
        return body  # with its length, as it is sent back

    def _done(self, kind: int, body: bytes, otherwise: str) -> None:
        _, answer = self._ask(kind, body)
        if _status(answer) != _OK:
            raise self._refused(answer, otherwise)

    def _refused(self, body: bytes, sentence: str) -> CommandFailed:
        return CommandFailed(self.where, ["sftp"], _status(body), sentence)

    def _ask(self, kind: int, body: bytes) -> tuple[int, bytes]:
        """Kind and body of the answer, without its number."""
        self._send(kind, body)
        self.to.flush()
        return self._receive()

    def _send(self, kind: int, body: bytes, *, numbered: bool = True) -> None:
        self.number += 1
        number = struct.pack(">I", self.number % 2**32) if numbered else b""
        try:
            self.to.write(_text(bytes([kind]) + number + body))
        except OSError as problem:
            raise EOFError from problem

    def _receive(self) -> tuple[int, bytes]:
        """The next answer. OpenSSH answers in the order in which it was asked."""
        try:
            self.to.flush()
        except OSError as problem:
            raise EOFError from problem
        (size,) = struct.unpack(">I", self._exactly(4))
        answer = self._exactly(size)
        self.watch.feed()
        return answer[0], answer[5:]

    def _exactly(self, size: int) -> bytes:
        found = self.back.read(size)
        if len(found) < size:
            raise EOFError
        return found


class Writing:
    """A file of the server that is written to."""

    def __init__(self, session: Session, handle: bytes, path: str) -> None:
        self.session, self.handle, self.path = session, handle, path
        self.under_way = 0

    def at(self, offset: int, content: bytes) -> None:
        for begin in range(0, len(content), _PART):
            part = content[begin : begin + _PART]
            self.session._send(_WRITE, self.handle + struct.pack(">Q", offset + begin) + _text(part))
            self.under_way += 1
            if self.under_way >= _UNDER_WAY:
                self._take_answer()

    def size(self, size: int) -> None:
        """So large from now on; what was never written to is a hole."""
        self.finish()
        attributes = struct.pack(">IQ", _WITH_SIZE, size)
        self.session._done(_FSETSTAT, self.handle + attributes, f"{self.path} cannot be made {size} bytes large")

    def finish(self) -> None:
        """Until everything was taken."""
        while self.under_way:
            self._take_answer()

    def drop(self) -> None:
        """Take the answers without asking what they say."""
        while self.under_way:
            self.under_way -= 1
            self.session._receive()

    def _take_answer(self) -> None:
        self.under_way -= 1
        _, body = self.session._receive()
        if _status(body) != _OK:
            raise self.session._refused(body, f"{self.path} cannot be written to: is its disk full?")


def _text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def _status(body: bytes) -> int:
    code: int = struct.unpack(">I", body[:4])[0]
    return code


def _facts(body: bytes) -> FileFacts:
    """Of the attributes: flags, then what they say is there, in this order."""
    (flags,), at, size = struct.unpack(">I", body[:4]), 4, 0
    if flags & _WITH_SIZE:
        (size,) = struct.unpack(">Q", body[at : at + 8])
        at += 8
    at += 8 * bool(flags & _WITH_OWNER) + 4 * bool(flags & _WITH_MODE)
    written_at = struct.unpack(">II", body[at : at + 8])[1] if flags & _WITH_TIMES else 0
    return FileFacts(size, written_at)
