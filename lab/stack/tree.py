"""The process tree of a stack: one first process whose end is the end of everything below it.

As root it is `unshare`, holding a PID and a mount namespace: when it dies, however it dies, the kernel ends
all that runs inside, so there is never an orphan. Without root each program asks the kernel to be killed with
supervisord instead. Either way the tree is recognised by pid and start time, never by pid alone.
"""

import contextlib
import json
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.process import ProcessId, run, wait_until
from lab.stack.control import Control
from lab.stack.errors import StackError
from lab.stack.layout import ACCOUNT, Layout
from lab.state import write_file

_START_SECONDS = 30
_STOP_SECONDS = 90
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Tree:
    """The processes of one stack, whether they run or not."""

    def __init__(self, layout: Layout, *, socket_group: int | None = None) -> None:
        self.layout = layout
        self.socket_group = socket_group  # an engine's socket on this machine belongs to this group
        self.control = Control(layout.control)

    @property
    def first(self) -> ProcessId | None:
        """The first process if it lives. A record left by a crash or a reboot names none."""
        raw = self._record()
        process = ProcessId(int(raw["pid"]), int(raw["started"])) if raw else None
        return process if process is not None and process.alive() else None

    @property
    def owner(self) -> Path:
        """The checkout that started it: two checkouts on a machine share /run/berth."""
        return Path(self._record().get("repo", str(self.layout.repo)))

    def refuse_foreign(self) -> None:
        """Raise StackError when another checkout, which still exists, runs a stack of this name."""
        if self.first is not None and self.owner != self.layout.repo and (self.owner / "script").is_dir():
            raise StackError(
                f"a stack named {self.layout.name} runs from {self.owner}: stop it there first "
                f"({self.owner}/script/server --stop), or choose another name with BERTH_STACK"
            )

    def prefix(self) -> list[str]:
        """What goes before a program inside the tree so that it runs without root's rights."""
        if not self.layout.as_root:
            return ["setpriv", "--pdeathsig", "KILL", "--"]
        groups = ["--clear-groups"] if self.socket_group is None else [f"--groups={self.socket_group}"]
        identity = [f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", *groups]
        return ["setpriv", *identity, "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--"]

    def environment(self) -> dict[str, str]:
        """What every program starts with; the portal reads the rest from the environment file."""
        return {
            "PATH": _PATH,
            "LANG": "C.UTF-8",
            "HOME": str(self.layout.scratch),
            "TMPDIR": str(self.layout.scratch),
            "BERTH_ENV_FILE": f"var/{self.layout.name}/env",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",  # the checkout belongs to somebody else
            "MALLOC_ARENA_MAX": "2",  # threads would otherwise hold a heap each
        }

    def enter(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` inside the tree, as the account, in the checkout.

        To be run with `environment()` and nothing else: the caller's variables are root's.
        """
        there = ["env", f"--chdir={self.layout.app}"]
        if not self.layout.as_root:
            return [*there, *argv]
        first = self.first
        if first is None:
            raise StackError(f"the stack {self.layout.name} is not running")
        namespaces = f"/proc/{first.pid}/ns"
        inside = ["nsenter", f"--mount={namespaces}/mnt", f"--pid={namespaces}/pid_for_children", "--"]
        return [*inside, *there, *self.prefix(), *argv]

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        timeout: float = 60,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run inside the tree to the end; raises CommandFailed like lab.process.run."""
        return run(self.enter(argv), timeout=timeout, check=check, env={**self.environment(), **(env or {})})

    def start(self, config: str) -> None:
        """Start supervisord with this configuration; it starts no program by itself.

        Called with the stack's lock held. The new process inherits the lock until it has written down who it
        is, so that killing us in between cannot leave a tree that nobody knows of.
        """
        write_file(self.layout.config, config, mode=0o600)
        with open(self.layout.log / "machine.log", "ab") as log:
            pid = os.fork()
            if pid == 0:
                self._become_tree(log.fileno())
        wait_until(lambda: self.control.answers() or _ended(pid), seconds=_START_SECONDS)
        if self.first is None or not self.control.answers():
            self.kill()
            raise StackError(f"the stack's first process did not start: see {self.layout.log}/machine.log")

    def stop(self) -> None:
        """End all programs in order, then the tree. Success when it is already gone."""
        first = self.first
        if first is not None:
            self.control.shutdown()
            wait_until(lambda: not self._lives(first), seconds=_STOP_SECONDS, interval=0.05)
        self.kill()
        self.layout.record.unlink(missing_ok=True)

    def kill(self) -> None:
        """End the tree at once; the kernel takes everything inside with it. A stale record harms nobody."""
        first = self.first
        if first is None:
            return
        first.kill()
        if not wait_until(lambda: not self._lives(first), seconds=20):
            raise StackError(f"process {first.pid} of the stack does not die; see /proc/{first.pid}/stack")

    def _lives(self, first: ProcessId) -> bool:
        _ended(first.pid)  # if it is our own child, take its exit status so that it is gone
        return first.alive()

    def _record(self) -> dict[str, str]:
        try:
            raw = json.loads(self.layout.record.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return raw if isinstance(raw, dict) and {"pid", "started"} <= raw.keys() else {}

    def _become_tree(self, log: int) -> None:
        """In the child: write down who we are, then turn into the first process. Never returns."""
        try:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.chdir("/")
            os.umask(0o022)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            me = ProcessId.of(os.getpid())
            if me is None:
                raise StackError("/proc is not mounted")
            note = {"pid": str(me.pid), "started": str(me.started), "repo": str(self.layout.repo)}
            write_file(self.layout.record, json.dumps(note) + "\n")
            argv = self._first_argv()
            os.closerange(3, 1024)  # nothing of the caller's, above all no lock, may live as long as the tree
            os.execvpe(argv[0], argv, self.environment())  # noqa: S606
        except BaseException as problem:  # noqa: BLE001 - this child must never run the parent's code
            os.write(2, f"cannot start: {problem!r}\n".encode())
        finally:
            os._exit(127)

    def _first_argv(self) -> list[str]:
        python, config = str(self.layout.python), str(self.layout.config)
        supervisord = [python, "-m", "supervisor.supervisord", "--nodaemon", "--configuration", config]
        if not self.layout.as_root:
            return supervisord
        bind = shlex.join(["mount", "--bind", str(self.layout.repo), str(self.layout.app)])
        # What supervisord prints is in its own log as well; errors of the shell and of mount stay in ours.
        there = shlex.join(["cd", str(self.layout.app)])
        inside = f"{bind} && {there} && exec {shlex.join(supervisord)} >/dev/null"
        namespaces = [
            "--mount",
            "--propagation",
            "private",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]
        return ["unshare", *namespaces, "/bin/sh", "-c", inside]


def ensure_account() -> None:
    """Make the unprivileged account that runs the portal, if root asks and it is missing."""
    if os.geteuid() != 0:
        return
    try:
        pwd.getpwnam(ACCOUNT)
    except KeyError:
        options = ["--system", "--user-group", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
        run(["useradd", *options, ACCOUNT])


def make_directories(layout: Layout) -> None:
    """Make the stack's directories with the owners and modes that keep others out."""
    (layout.repo / "var").mkdir(exist_ok=True)
    layout.run.mkdir(parents=True, exist_ok=True)  # again if a stack that goes down takes the empty parent away
    layout.app.mkdir(exist_ok=True)
    layout.var.mkdir(exist_ok=True)
    layout.log.mkdir(exist_ok=True)
    mail, static = layout.var / "mail", layout.repo / "var" / "static"
    for place in (
        layout.var,
        layout.postgres_sockets,
        layout.redis_socket.parent,
        layout.scratch,
        layout.fail_points,
        mail,
        static,
    ):
        place.mkdir(exist_ok=True)
        place.chmod(0o755 if place == static else 0o700)
        own(place, layout)


def own(path: Path, layout: Layout) -> None:
    """Give the file to the account that runs the portal."""
    if layout.as_root:
        shutil.chown(path, ACCOUNT, ACCOUNT)


def remove_run(layout: Layout) -> None:
    """Remove what lives only as long as the processes. The checkout's mount point is only ever `rmdir`ed."""
    if layout.as_root:
        if layout.app.is_dir():
            layout.app.rmdir()
        if layout.run.is_dir():
            shutil.rmtree(layout.run)
        with contextlib.suppress(OSError):  # other stacks are there
            layout.run.parent.rmdir()
    elif layout.run.is_dir():
        shutil.rmtree(layout.run)


def _ended(pid: int) -> bool:
    """Whether our own child has ended; False too when it is nobody's or somebody else's child."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False


def wait_for_socket(path: Path, seconds: float) -> bool:
    """Whether something made this Unix socket within the time."""
    deadline = time.monotonic() + seconds
    while not path.is_socket():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
