"""Where everything of a stack is."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from lab.stack.errors import StackError

REPO = Path(__file__).resolve().parents[2]
ACCOUNT = "berth"
RUN_ROOT = Path("/run/berth")
DEFAULT_PORTS = {"demo": 8000, "test": 8100, "bench": 8200}
LONGEST_SOCKET_PATH = 107  # what the kernel allows for a Unix socket


@dataclass(frozen=True)
class Layout:
    """The places of one stack. As root the portal sees the checkout at `app`, otherwise where it really is.

    A checkout under /root cannot be read by the unprivileged account that runs the portal, so root mounts it
    at a neutral place which only the stack's own processes see.
    """

    name: str
    repo: Path = REPO
    as_root: bool = os.geteuid() == 0
    run_root: Path = RUN_ROOT

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,14}", self.name):
            raise StackError(f"{self.name!r} is no name for a stack: up to 15 of a-z, 0-9 and -, a letter first")
        longest = len(str(self.postgres_sockets / ".s.PGSQL.5432.lock"))
        if longest > LONGEST_SOCKET_PATH:
            raise StackError(f"the path {self.repo} is too long for Unix sockets: use a shorter one, or run as root")

    @property
    def var(self) -> Path:
        return self.repo / "var" / self.name

    @property
    def run(self) -> Path:
        return self.run_root / self.name if self.as_root else self.var / "run"

    @property
    def app(self) -> Path:
        return self.run / "app" if self.as_root else self.repo

    @property
    def env_file(self) -> Path:
        return self.var / "env"

    @property
    def admin_password(self) -> Path:
        return self.var / "admin-password"

    @property
    def log(self) -> Path:
        return self.var / "log"

    @property
    def fail_points(self) -> Path:
        """Where a test leaves a file to kill the worker at the point of that name: BERTH_FAIL_DIR."""
        return self.var / "fail"

    @property
    def postgres_data(self) -> Path:
        return self.var / "postgres"

    @property
    def postgres_sockets(self) -> Path:
        return self.run / "pg"

    @property
    def redis_socket(self) -> Path:
        return self.run / "redis" / "redis.sock"

    @property
    def scratch(self) -> Path:
        """Where the portal keeps sockets and temporary files: BERTH_RUN_DIR."""
        return self.run / "tmp"

    @property
    def config(self) -> Path:
        return self.run / "supervisord.conf"

    @property
    def control(self) -> Path:
        return self.run / "supervisor.sock"

    @property
    def record(self) -> Path:
        """Who the process tree is: its first process and when that started."""
        return self.run / "machine.json"

    @property
    def python(self) -> Path:
        return self.app / ".venv" / "bin" / "python"

    def inside(self, path: Path) -> Path:
        """The same file as the portal's processes see it."""
        return self.app / path.relative_to(self.repo)

    def lab_file(self, lab: str) -> Path:
        return self.repo / "var" / "lab" / lab / "lab.json"
