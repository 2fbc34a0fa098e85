"""Each service works with the credentials that its customer is shown, and with no others."""

import hashlib
import os
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from tests.integration.desk import Answer, Desk


@pytest.fixture(scope="module")
def services(module_desk: Desk) -> dict[str, Answer]:
    """One of each, started side by side."""
    booked = {slug: module_desk.book(slug)["id"] for slug in ("mysql", "shell", "redis")}
    return {slug: module_desk.until(number, "running", seconds=60) for slug, number in booked.items()}


def _place(reservation: Answer) -> tuple[str, int]:
    return reservation["endpoints"][0]["host"], reservation["endpoints"][0]["port"]


def test_a_service_without_an_image_cannot_be_booked(module_desk: Desk) -> None:
    answer = module_desk.try_to_book("jenkins")

    assert answer.status_code == 422
    assert "not available" in answer.json()["errors"]["service"]


def test_redis(services: dict[str, Answer], module_desk: Desk) -> None:
    host, port = _place(services["redis"])
    base = ["redis-cli", "-h", host, "-p", str(port), "--no-auth-warning"]
    password = services["redis"]["credentials"]["password"]

    assert "NOAUTH" in module_desk.outside(*base, "ping")
    assert "WRONGPASS" in module_desk.outside(*base, "auth", "wrong")
    assert module_desk.outside(*base, "-a", password, "set", "key", "value") == "OK\n"
    assert module_desk.outside(*base, "-a", password, "get", "key") == "value\n"
    assert f"-a {password}" in services["redis"]["connect"][0]


def test_shell(services: dict[str, Answer], module_desk: Desk, tmp_path: Path) -> None:
    assert "uid=" in _ssh(services["shell"], services["shell"]["credentials"]["password"], "id", tmp_path)
    assert "uid=" not in _ssh(services["shell"], "wrong", "id", tmp_path)


def _ssh(reservation: Answer, password: str, command: str, folder: Path) -> str:
    """The output of a command by SSH with a password: the way that ssh offers to programs is an askpass script."""

    host, port = _place(reservation)
    askpass = folder / "askpass"
    askpass.write_text(f"#!/bin/sh\necho '{password}'\n")
    askpass.chmod(stat.S_IRWXU)
    options = {
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "PreferredAuthentications": "password",
        "NumberOfPasswordPrompts": "1",
        "ConnectTimeout": "5",
    }
    argv = ["ssh", "-p", str(port), *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    done = subprocess.run(
        [*argv, f"{reservation['credentials']['user']}@{host}", command],
        env=os.environ | {"SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ""},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout


def test_mysql(services: dict[str, Answer]) -> None:
    credentials = services["mysql"]["credentials"]
    place = _place(services["mysql"])

    with _MySql(place, credentials["user"], credentials["password"], credentials["database"]) as database:
        database.query("CREATE TABLE t (word varchar(20))")
        database.query("INSERT INTO t VALUES ('kept')")
        assert b"kept" in database.query("SELECT word FROM t")
    for user, password in ((credentials["user"], "wrong"), (credentials["user"], ""), ("root", "")):
        with pytest.raises(PermissionError), _MySql(place, user, password, ""):
            pass


class _MySql:
    """As much of the client protocol as it takes to log in with mysql_native_password and to ask something.

    https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html
    """

    def __init__(self, place: tuple[str, int], user: str, password: str, database: str) -> None:
        self.socket = socket.create_connection(place, timeout=10)
        try:
            greeting = self._read()
            rest = greeting.index(b"\0", 1) + 5
            salt = greeting[rest : rest + 8] + greeting[rest + 27 : rest + 39]
            flags = 0x1 | 0x200 | 0x8000 | 0x80000 | (0x8 if database else 0)
            head = flags.to_bytes(4, "little") + (2**24 - 1).to_bytes(4, "little") + bytes([45]) + bytes(23)
            proof = _scramble(password, salt)
            name = database.encode() + b"\0" if database else b""
            body = head + user.encode() + b"\0" + bytes([len(proof)]) + proof + name + b"mysql_native_password\0"
            self._write(1, body)
            answer = self._read()
            if answer[:1] == b"\xfe":  # the account wants the proof of another salt
                self._write(3, _scramble(password, answer.split(b"\0", 1)[1][:20]))
                answer = self._read()
            if answer[:1] != b"\0":
                raise PermissionError(answer)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> "_MySql":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def query(self, text: str) -> bytes:
        """The answer as it comes over the wire; an error raises."""
        self._write(0, b"\x03" + text.encode())
        answer = self._read()
        assert answer[:1] != b"\xff", answer
        if answer[:1] == b"\0":
            return answer
        ends = 0
        while ends < 2:
            packet = self._read()
            ends += packet[:1] == b"\xfe" and len(packet) < 9
            answer += packet
        return answer

    def _read(self) -> bytes:
        head = self._exactly(4)
        return self._exactly(int.from_bytes(head[:3], "little"))

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            part = self.socket.recv(count - len(found))
            if not part:
                raise ConnectionError("the server closed the connection")
            found += part
        return found

    def _write(self, number: int, body: bytes) -> None:
        self.socket.sendall(len(body).to_bytes(3, "little") + bytes([number]) + body)


def _scramble(password: str, salt: bytes) -> bytes:
    if not password:
        return b""
    once = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    twice = hashlib.sha1(once, usedforsecurity=False).digest()
    mask = hashlib.sha1(salt + twice, usedforsecurity=False).digest()
    return bytes(a ^ b for a, b in zip(once, mask, strict=True))
