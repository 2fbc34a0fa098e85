"""One machine: a process tree in its own namespaces that vanishes, with everything in it, when its init is killed."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from .machines import MachineSpec
from .process import CommandFailed, LabError, ProcessId, run, start_time, wait_until
from .state import Store

_BOOT_SECONDS = 15
_KILL_SECONDS = 20
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}
#: Notes "pid start-time" and becomes the daemon, unless it runs already: another command may have been killed just
#: after it started one. The lock is let go before, since a daemon's children would keep it.
START_DAEMON = """
note=/run/lab/$0.pid
exec 9>"$note.lock"
flock 9
if read -r pid start <"$note" && read -r _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ now _ <"/proc/$pid/stat"; then
    [ "$start" != "$now" ] || exit 0
fi 2>/dev/null
read -r pid _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ start _ </proc/self/stat
echo "$pid $start" >"$note"
exec 9>&-
exec "$@"
"""


class Machine:
    """A machine of a lab. `store` remembers its init between runs of the command."""

    def __init__(self, spec: MachineSpec, store: Store) -> None:
        self.spec = spec
        self.name = spec.name
        self.store = store
        self.root = store.directory / "machines" / spec.name

    @property
    def init(self) -> ProcessId | None:
        """Its first process if it lives and has finished booting, else None."""
        init = self.store.state.inits.get(self.name)
        if init is None or not init.alive():
            return None
        return init if Path(f"/proc/{init.pid}/root/run/lab/booted").exists() else None

    @property
    def pid(self) -> int:
        """The init's pid. Raises LabError when the machine is off."""
        init = self.init
        if init is None:
            raise LabError(f"machine {self.name} of lab {self.store.name} is not running")
        return init.pid

    def boot(self) -> None:
        """Start it, after killing what a half-way boot left. Returns when its file system is in place."""
        self.kill()
        for directory in ("stage", "etc", "etc.work"):
            (self.root / directory).mkdir(parents=True, exist_ok=True)
        for name, _ in self.spec.binds:
            (self.root / "data" / name).mkdir(parents=True, exist_ok=True)
        environment = ENVIRONMENT | {
            "BERTH_LAB": str(self.store.directory),
            "LAB_MACHINE": self.name,
            "LAB_SLOT": str(self.store.state.slot),
            "LAB_ROOT": str(self.root),
            "LAB_BINDS": " ".join(f"{name}:{path}" for name, path in self.spec.binds),
            "LAB_FORWARD": "1" if self.spec.forwards else "0",
        }
        script = str(Path(__file__).with_name("boot.sh"))
        namespaces = ["--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]
        with open(self.store.log(self.name, "boot"), "w") as log:
            process = subprocess.Popen(
                # setsid --fork: the machine outlives this program and is nobody's child to wait for.
                ["setsid", "--fork", "unshare", *namespaces, "/bin/sh", script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                cwd="/",
            )
        try:
            process.wait(timeout=_BOOT_SECONDS)
            self._handshake(process)
        except BaseException:
            self.kill()
            raise
        finally:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()

    def _handshake(self, process: subprocess.Popen[bytes]) -> None:
        """Note the init's pid before it does anything, so that no machine exists that nobody knows of."""
        if process.stdin is None or process.stdout is None:
            raise LabError("a machine is started with pipes")
        for expected in ("pid", "ready"):
            readable, _, _ = select.select([process.stdout], [], [], _BOOT_SECONDS)
            line = _read_line(process.stdout.fileno()) if readable else ""
            if not line or (expected == "ready" and line != "ready"):
                reason = self.store.log(self.name, "boot").read_text().strip()
                raise LabError(f"machine {self.name} did not boot: {reason or 'no answer'}")
            if expected == "pid":
                init = ProcessId.of(int(line))
                if init is None:
                    raise LabError(f"machine {self.name} ended while it was starting")
                self.store.remember_init(self.name, init)
                process.stdin.write(b"go\n")
                process.stdin.flush()

    def kill(self) -> None:
        """Power off. Success when it is already off. Raises LabError if a process refuses to die."""
        init = self.store.state.inits.get(self.name)
        if init is None:
            return
        init.kill()
        if not init.wait(seconds=_KILL_SECONDS):
            raise LabError(f"machine {self.name} (pid {init.pid}) does not die; see /proc/{init.pid}/stack")
        self.store.forget_init(self.name)

    def enter(self, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` inside the machine."""
        return ["nsenter", "-t", str(self.pid), "-m", "-u", "-i", "-n", "-p", "--", *argv]

    def run(
        self,
        argv: Sequence[str],
        *,
        input: str | None = None,  # noqa: A002 - named as in the subprocess module
        timeout: float = 30,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run inside the machine to the end; raises CommandFailed like process.run."""
        return run(self.enter(argv), input=input, timeout=timeout, check=check, env=ENVIRONMENT)

    def popen(
        self,
        argv: Sequence[str],
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
    ) -> subprocess.Popen[str]:
        """Start inside the machine and return at once; the caller ends it."""
        return subprocess.Popen(self.enter(argv), stdin=stdin, stdout=stdout, stderr=stderr, text=True, env=ENVIRONMENT)

    def exec(self, argv: Sequence[str]) -> NoReturn:
        """Become this program inside the machine; does not return."""
        command = self.enter(argv)
        environment = ENVIRONMENT | {"TERM": os.environ.get("TERM", "dumb")}
        os.execvpe(command[0], command, environment)  # noqa: S606 - becoming the program is the point

    def start_daemon(self, name: str, argv: Sequence[str]) -> None:
        """Start a daemon that belongs to the machine's init; its output goes to the lab's log directory."""
        command = self.enter(["setsid", "--fork", "/bin/sh", "-c", START_DAEMON, name, *argv])
        note = Path(f"/proc/{self.pid}/root/run/lab/{name}.pid")
        before = note.read_text() if note.exists() else ""
        with open(self.store.log(self.name, name), "ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=ENVIRONMENT,
                start_new_session=True,
            )
        if process.wait(timeout=10) != 0:
            raise CommandFailed(command, process.returncode, f"see {self.store.log(self.name, name)}")
        if not wait_until(
            lambda: self.daemon_pid(name) is not None or (note.exists() and note.read_text() not in ("", before)),
            seconds=10,
            interval=0.005,
        ):
            raise LabError(f"{name} on {self.name} was started and is not there")

    def daemon_pid(self, name: str) -> int | None:
        """The daemon's pid as the machine counts; None when it is not running."""
        init = self.init
        if init is None:
            return None
        inside = Path(f"/proc/{init.pid}/root")
        try:
            pid, started = (inside / f"run/lab/{name}.pid").read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        return int(pid) if start_time(int(pid), inside / "proc") == int(started) else None

    def signal_daemon(self, name: str, signal: int) -> None:
        """Send a signal to a running daemon. Raises LabError when it is not running."""
        pid = self.daemon_pid(name)
        if pid is None:
            raise LabError(f"{name} is not running on {self.name}")
        self.run(["kill", f"-{signal}", str(pid)])


def _read_line(descriptor: int) -> str:
    """One line without its end, read byte by byte so that nothing of the next one is swallowed; "" at the end."""
    line = b""
    while (byte := os.read(descriptor, 1)) not in (b"", b"\n"):
        line += byte
    return line.decode()
