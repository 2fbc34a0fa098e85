"""Brings a stack up, takes it down, says how it is."""

import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lab.process import wait_until
from lab.stack import changes, databases, environment, programs
from lab.stack.errors import StackError
from lab.stack.layout import DEFAULT_PORTS, Layout
from lab.stack.tree import Tree, ensure_account, make_directories, own, remove_run
from lab.state import write_file

Completed = subprocess.CompletedProcess[str]

_LOCK_SECONDS = 300
_READY_SECONDS = 45
_PREPARE_SECONDS = 600  # the first mirroring of images into the lab's registry is the longest part
_KEPT = {"log", "lock"}  # what remains of a stack whose data is removed
_PASSED_ON = (
    "BERTH_ADMIN_PASSWORD",
    "DOCKER_HOST",
)  # to the commands that prepare the portal, and to no file


@dataclass(frozen=True)
class Wanted:
    """What to bring up: with which lab (None: an engine of this machine), on which port, how much of it.

    With fail points, tests can kill the worker in the midst of its work (compute/failpoints.py). Careless data may be
    lost when the machine crashes, and is written faster: for tests.
    """

    lab: str | None
    port: int | None = None
    only_databases: bool = False
    fail_points: bool = False
    careless: bool = False


@dataclass(frozen=True)
class Status:
    """How a stack is at this moment."""

    name: str
    running: bool = False
    url: str | None = None
    repo: str | None = None
    first_pid: int | None = None
    programs: dict[str, str] = field(default_factory=dict)


class Stack:
    """One stack by its name."""

    def __init__(self, name: str, *, layout: Layout | None = None) -> None:
        self.layout = layout or Layout(name)
        self.tree = Tree(self.layout)

    @property
    def env(self) -> dict[str, str]:
        """The portal's environment as it was written at the last start."""
        return environment.read(self.layout)

    @property
    def base_url(self) -> str:
        return self.env.get("BERTH_BASE_URL", "")

    def up(self, wanted: Wanted) -> None:
        """Bring it up, or do what is missing. Safe to repeat after a crash at any moment."""
        with self._locked():
            self.tree.refuse_foreign()
            ensure_account()
            make_directories(self.layout)
            self._check_readable()
            lab = self._described_lab(wanted)
            port = self._port(wanted)
            env = environment.compose(
                self.layout,
                port=port,
                live_port=self._live_port(port),
                lab=lab,
                previous=self.env,
                fail_points=wanted.fail_points,
            )
            if environment.render(env) != environment.render(self.env):
                write_file(self.layout.env_file, environment.render(env), mode=0o600)
                own(self.layout.env_file, self.layout)
            private = [
                name
                for name, url in zip(programs.DATABASES, environment.OUTSIDE_SERVERS, strict=True)
                if url not in os.environ
            ]
            fresh = self._run_tree(wanted, private, port=port)
            databases.start(self.tree, private, fresh=fresh)
            _say(f"databases of {self.layout.name} are up")
            if not wanted.only_databases:
                self._prepare(wanted)
                self._serve(environment.render(env))

    def down(self, *, purge: bool = False) -> None:
        """Stop everything and leave no process, mount or socket. `purge` removes its data, but no logs."""
        if not self.layout.run.exists() and not self.layout.var.exists():
            return
        with self._locked():
            self.tree.refuse_foreign()
            self.tree.stop()
            remove_run(self.layout)
            if purge:
                for path in self.layout.var.iterdir():
                    if path.name not in _KEPT:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
        _say(f"{self.layout.name} is down" + (", its data removed" if purge else ""))

    def status(self) -> Status:
        """Whether it runs, where, and the state of each program."""
        first = self.tree.first
        if first is None:
            return Status(self.layout.name)
        return Status(
            self.layout.name,
            running=True,
            url=self.base_url,
            repo=str(self.tree.owner),
            first_pid=first.pid,
            programs=self.tree.control.states(),
        )

    def greeting(self) -> str:
        """Where to go and who to be. The admin's generated password is in it the first time only."""
        kept, greeted = self.layout.admin_password, self.layout.var / "greeted"
        if greeted.exists():
            password = f"password as before (kept in {kept.relative_to(self.layout.repo)})"
        elif "BERTH_ADMIN_PASSWORD" in os.environ or not kept.exists():
            password = "password as you set it"  # noqa: S105 - no password
        else:
            password = f"password {kept.read_text().strip()} (kept in {kept.relative_to(self.layout.repo)})"
        greeted.touch()
        return f"""
Berth is ready: {self.base_url}
  log in as admin, {password}
  stop with script/server --stop"""

    def run(self, argv: Sequence[str], *, timeout: float = 60, check: bool = True) -> Completed:
        """Run inside, as the portal's account and with its environment. Raises CommandFailed on failure."""
        return self.tree.run(argv, env=self.env, timeout=timeout, check=check)

    def manage(self, *arguments: str, timeout: float = 60, check: bool = True) -> Completed:
        """Run one of manage.py's commands inside."""
        return self.run([str(self.layout.python), "manage.py", *arguments], timeout=timeout, check=check)

    def exec(self, argv: Sequence[str]) -> None:
        """Become `argv` inside; does not return."""
        command = self.tree.enter(argv)
        terminal = {"TERM": os.environ.get("TERM", "dumb")}
        os.execvpe(command[0], command, {**self.tree.environment(), **self.env, **terminal})  # noqa: S606

    def log_tail(self, program: str, lines: int = 15) -> str:
        """The last lines of a program's log."""
        try:
            text = (self.layout.log / f"{program}.log").read_text(errors="replace")
        except FileNotFoundError:
            return "(no log)"
        return "\n".join(text.splitlines()[-lines:])

    def _described_lab(self, wanted: Wanted) -> dict[str, Any] | None:
        if wanted.lab is None:
            return None
        lab = environment.load_lab(self.layout, wanted.lab)
        if lab is None and not wanted.only_databases:
            raise StackError(f"the lab {wanted.lab} is not up: python -m lab up {wanted.lab} --owner berth")
        return lab

    def _port(self, wanted: Wanted) -> int:
        """The port to serve on: the wanted one, the one it has now, the default, or for tests a free one."""
        runs = self.tree.first is not None
        current = urlsplit(self.base_url).port if runs and self.base_url else None
        default = DEFAULT_PORTS.get(self.layout.name, 8300)
        port = wanted.port or current or default
        serves = runs and self.tree.control.states().get("web") == "RUNNING"
        if (serves and port == current) or _is_free(port):
            return port
        if wanted.port or self.layout.name == "demo":
            raise StackError(f"port {port} is in use by another program: stop that or choose one with --port N")
        return next(other for other in range(default + 1, default + 99) if _is_free(other))

    def _live_port(self, port: int) -> int:
        """Where browsers are told of changes: the one it has now, else a free one, a thousand above the portal's."""
        current = urlsplit(self.env.get("BERTH_LIVE_URL", "")).port
        if current and self.tree.first is not None and self.tree.control.states().get("live") == "RUNNING":
            return current
        return next(other for other in range(port + 1000, port + 1100) if _is_free(other))

    def _check_readable(self) -> None:
        """Say so early when the account could not read the checkout (cloned with a strict umask)."""
        if not self.layout.as_root:
            return
        for path in (self.layout.repo, self.layout.repo / "lab", self.layout.repo / ".venv"):
            if not path.stat().st_mode & 0o005 == 0o005:
                raise StackError(
                    f"{path} is closed to the account that runs the portal: chmod -R o+rX {self.layout.repo}"
                )

    def _run_tree(self, wanted: Wanted, private: list[str], *, port: int) -> bool:
        """Have the process tree run with the right configuration; whether it had to be started."""
        layout = self.layout
        engine_socket = None if wanted.lab else _engine_socket()
        if engine_socket is not None and engine_socket.is_socket():
            self.tree.socket_group = engine_socket.stat().st_gid
        lines = programs.portal(layout, port=port)
        if "redis" in private:
            lines.insert(0, programs.redis(layout))
        if "postgres" in private:
            lines.insert(0, programs.postgres(layout, bindir=databases.bindir(layout), careless=wanted.careless))
        config = programs.supervisord_conf(layout, lines, prefix=self.tree.prefix())
        if self.tree.first is not None and self.tree.control.answers():
            if layout.config.read_text() == config:
                return False
            _say("its configuration changed: starting anew")
        self.tree.stop()
        remove_run(layout)
        make_directories(layout)
        self.tree.start(config)
        return True

    def _prepare(self, wanted: Wanted) -> None:
        """Tables, static files, the admin, the catalogue and the machines: all of it is safe to repeat."""
        admin = str(self.layout.admin_password.relative_to(self.layout.repo))
        todo = [["migrate", "--verbosity=0"], ["createadmin", f"--password-file={admin}"], ["seed_catalogue"]]
        if wanted.lab is None:
            todo.append(["seed_local"])
        else:
            todo.append(["seed_lab", str(self.layout.lab_file(wanted.lab).relative_to(self.layout.repo))])
        self._collect_static()
        self._commands(todo)

    def _collect_static(self) -> None:
        """What is served as static files; all stacks of the checkout share it, and may come up at the same time."""
        stamp = changes.static_stamp(self.layout)
        with _lock(stamp.path.with_name(".static.lock"), "another stack has been collecting static files for too long"):
            state = changes.digest(changes.assets(self.layout.repo))
            if not stamp.is_(state):
                self._commands([["collectstatic", "--noinput", "--verbosity=0"]])
                stamp.set(state)

    def _commands(self, todo: list[list[str]]) -> None:
        """Run commands of manage.py inside, in one process, and say what they say."""
        passed_on = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
        argv = [str(self.layout.python), "-m", "lab.stack.commands", json.dumps(todo)]
        _say(", ".join(command for command, *_ in todo))
        done = self.tree.run(argv, env={**self.env, **passed_on}, timeout=_PREPARE_SECONDS, check=False)
        if done.returncode != 0:
            raise StackError(f"preparing the portal failed:\n{(done.stderr or done.stdout).strip()}")
        for line in done.stdout.splitlines():
            if "password:" not in line:  # it is shown at the end
                _say(f"  {line}")

    def _serve(self, env: str) -> None:
        """Have web, worker, beat and live run today's code with today's environment, and wait until they answer."""
        stamp = changes.running_stamp(self.layout)
        state = changes.digest(changes.code(self.layout.repo), env, changes.static_stamp(self.layout).path.read_text())
        if not stamp.is_(state):
            self.tree.control.stop(reversed(programs.PORTAL))
        started = time.monotonic()
        try:
            self.tree.control.start(programs.PORTAL)
            problem = "" if wait_until(self.ready, seconds=_READY_SECONDS, interval=0.2) else "it is not ready"
        except StackError as error:
            problem = str(error)
        if problem:
            logs = "\n".join(f"--- {name}\n{self.log_tail(name)}" for name in programs.PORTAL)
            raise StackError(f"the portal did not start: {problem}\n{self.readiness()}\n{logs}")
        stamp.set(state)
        _say(f"web, worker, beat and live are ready after {time.monotonic() - started:.0f} s")

    def ready(self) -> bool:
        """Whether the portal says that its database, Redis and a worker are there."""
        return self.readiness().startswith("200")

    def readiness(self) -> str:
        """Status and body of /readyz, or why there is no answer."""
        try:
            with urllib.request.urlopen(f"{self.base_url}/readyz", timeout=5) as answer:  # noqa: S310 - our own http
                return f"{answer.status} {answer.read(500).decode(errors='replace')}"
        except urllib.error.HTTPError as problem:
            return f"{problem.code} {problem.read(500).decode(errors='replace')}"
        except OSError as problem:
            return f"no answer: {problem}"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One command at a time works on a stack; the kernel frees the lock of a killed one."""
        self.layout.var.mkdir(parents=True, exist_ok=True)
        problem = f"another command has been working on {self.layout.name} for too long"
        with _lock(self.layout.var / "lock", problem):
            yield


@contextlib.contextmanager
def _lock(path: Path, problem: str) -> Iterator[None]:
    """Raises StackError with this sentence when somebody else holds it for minutes."""
    with open(path, "w") as file:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > deadline:
                raise StackError(problem)
            time.sleep(0.1)
        yield


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _engine_socket() -> Path | None:
    """The Unix socket of this machine's own engine; None when DOCKER_HOST names another transport."""
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    return Path(host.removeprefix("unix://")) if host.startswith("unix://") else None


def _say(text: str) -> None:
    print(f"stack: {text}", flush=True)
