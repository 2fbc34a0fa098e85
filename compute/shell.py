"""Runs a command on this machine or over SSH: one function, two transports.

A connection to a host is kept open and shared (ControlMaster), so that a command costs a few milliseconds and
not a handshake. Host keys are pinned: an unknown or changed one is an error. Every call has a time limit.
"""

import logging
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)


class CommandFailed(Exception):
    """The command ran and said no. Trying the same again is not expected to help."""

    def __init__(self, where: str, argv: Sequence[str], code: int, stderr: str) -> None:
        self.code, self.stderr = code, stderr.strip()
        super().__init__(f"{argv[0]} on {where} failed with exit code {code}: {self.stderr[-400:] or 'no message'}")


class NoAnswer(Exception):
    """The machine did not answer in time, or cannot be reached: what it did is unknown."""


@dataclass(frozen=True, slots=True)
class SshOptions:
    """How this process logs in: a private key, the pinned host keys, a private folder for the shared connections."""

    key: Path | None
    known_hosts: Path | None
    control_dir: Path


_slots: dict[str, threading.BoundedSemaphore] = {}
_slots_lock = threading.Lock()
SESSIONS_AT_ONCE = 8  # sshd's default MaxSessions is 10 on one connection


@dataclass(frozen=True, slots=True)
class Host:
    """A machine to run commands on: `user@host` over SSH, or "" for this one."""

    target: str
    options: SshOptions

    def run(self, argv: Sequence[str], *, stdin: str = "", timeout_s: float = 20) -> str:
        """The command's standard output. Raises CommandFailed or NoAnswer."""
        if not self.target:
            return self._call(list(argv), argv, stdin, timeout_s)
        with _slot(self.target, timeout_s):
            return self._call([*self._ssh(), shlex.join(argv)], argv, stdin, timeout_s)

    def sftp(self, commands: Sequence[str], *, timeout_s: float = 20) -> str:
        """The output of an sftp batch; a command that begins with "-" may fail. Raises as `run` does."""
        with _slot(self.target, timeout_s):
            command = ["sftp", "-b", "-", *self._options(), "--", self.target]
            return self._call(command, ["sftp"], "".join(f"{line}\n" for line in commands), timeout_s)

    def program(self, argv: Sequence[str]) -> list[str]:
        """The command that runs a program there, for whoever talks with it while it runs."""
        return [*self._ssh(), shlex.join(argv)] if self.target else list(argv)

    def subsystem(self, name: str) -> list[str]:
        """The command that speaks with a subsystem of its sshd."""
        return ["ssh", "-T", "-s", *self._options(), "--", self.target, name]

    def _ssh(self) -> list[str]:
        return ["ssh", "-T", *self._options(), "--", self.target]

    def _options(self) -> list[str]:
        if self.target.startswith("-"):
            raise CommandFailed(self.target, ["ssh"], 255, "an SSH target must not begin with a dash")
        self.options.control_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "5",
            "ControlMaster": "auto",
            "ControlPath": f"{self.options.control_dir}/%C",
            "ControlPersist": "600",
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "2",
            "StrictHostKeyChecking": "yes",
            "LogLevel": "ERROR",
        }
        if self.options.known_hosts:
            options["UserKnownHostsFile"] = str(self.options.known_hosts)
        if self.options.key:
            options["IdentityFile"] = str(self.options.key)
            options["IdentitiesOnly"] = "yes"
        return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]

    def _call(self, command: list[str], argv: Sequence[str], stdin: str, timeout_s: float) -> str:
        where, begun = self.target or "this machine", time.monotonic()
        try:
            done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired:
            raise NoAnswer(f"{where} did not finish {argv[0]} within {timeout_s:g} s") from None
        except FileNotFoundError:
            raise CommandFailed(where, argv, 127, f"{command[0]} is not installed") from None
        if done.returncode == 255 and self.target:
            raise NoAnswer(f"no SSH connection to {where}: {done.stderr.strip()[-300:]}")
        if done.returncode:
            raise CommandFailed(where, argv, done.returncode, done.stderr)
        logger.debug("%s on %s took %.3f s", argv[0], where, time.monotonic() - begun)  # arguments may be secrets
        return done.stdout


@contextmanager
def _slot(target: str, timeout_s: float) -> Iterator[None]:
    """One of the machine's sessions. Raises NoAnswer when all are in use for as long as the command itself may take."""
    with _slots_lock:
        slots = _slots.setdefault(target, threading.BoundedSemaphore(SESSIONS_AT_ONCE))
    if not slots.acquire(timeout=timeout_s):
        raise NoAnswer(f"{target} has {SESSIONS_AT_ONCE} commands to finish already")
    try:
        yield
    finally:
        slots.release()
