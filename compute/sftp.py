"""One thing that the sftp program cannot do: read a few bytes out of a large file.

Version 3 of the protocol, as OpenSSH speaks it (draft-ietf-secsh-filexfer-02).
"""

import struct
import subprocess
import threading
from typing import IO

from compute.shell import CommandFailed, Host, NoAnswer

_INIT, _VERSION, _OPEN, _READ, _STATUS, _HANDLE, _DATA = 1, 2, 3, 5, 101, 102, 103
_FOR_READING = 1
_END_OF_FILE, _NO_SUCH_FILE = 1, 2


def read_at(server: Host, path: str, offset: int, length: int, *, timeout_s: float = 20) -> bytes | None:
    """These bytes of the file, fewer at its end; None when there is no such file. Raises CommandFailed or NoAnswer."""
    command = server.subsystem("sftp")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as ssh:
        too_late = threading.Timer(timeout_s, ssh.kill)
        too_late.start()
        try:
            return _Conversation(server.target, ssh.stdin, ssh.stdout).read(path, offset, length)
        except (EOFError, OSError) as problem:
            raise NoAnswer(f"{server.target} did not let {path} be read within {timeout_s:g} s") from problem
        finally:
            too_late.cancel()
            ssh.kill()


class _Conversation:
    def __init__(self, where: str, to: IO[bytes] | None, back: IO[bytes] | None) -> None:
        if to is None or back is None:
            raise EOFError
        self.where, self.to, self.back = where, to, back

    def read(self, path: str, offset: int, length: int) -> bytes | None:
        self.ask(_INIT, struct.pack(">I", 3))
        opened, body = self.ask(
            _OPEN, struct.pack(">I", 1) + _text(path.encode()) + struct.pack(">II", _FOR_READING, 0)
        )
        if opened == _STATUS and _status(body) == _NO_SUCH_FILE:
            return None
        if opened != _HANDLE:
            raise CommandFailed(self.where, ["sftp"], _status(body), f"{path} cannot be opened")
        handle = body[4:]  # with its length, as it is sent back
        answer, body = self.ask(_READ, struct.pack(">I", 2) + handle + struct.pack(">QI", offset, length))
        if answer == _STATUS and _status(body) == _END_OF_FILE:
            return b""
        if answer != _DATA:
            raise CommandFailed(self.where, ["sftp"], _status(body), f"{path} cannot be read")
        return body[8:]

    def ask(self, kind: int, body: bytes) -> tuple[int, bytes]:
        """Kind and body of the answer."""
        self.to.write(_text(bytes([kind]) + body))
        self.to.flush()
        (size,) = struct.unpack(">I", self._exactly(4))
        answer = self._exactly(size)
        return answer[0], answer[1:]

    def _exactly(self, size: int) -> bytes:
        found = self.back.read(size)
        if len(found) < size:
            raise EOFError
        return found


def _text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def _status(body: bytes) -> int:
    code: int = struct.unpack(">I", body[4:8])[0]
    return code
