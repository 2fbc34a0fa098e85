"""The private PostgreSQL and Redis: made once, and in order again after any crash."""

import shutil
from pathlib import Path

from lab.process import wait_until
from lab.stack.errors import StackError
from lab.stack.layout import ACCOUNT, Layout
from lab.stack.tree import Tree, wait_for_socket

_POSTGRES_HOME = Path("/usr/lib/postgresql")
_READY_SECONDS = 60  # crash recovery reads what was not yet written to its place
_REDIS_SECONDS = 15


def bindir(layout: Layout, home: Path = _POSTGRES_HOME) -> Path:
    """The directory of PostgreSQL's programs: the version that made the data, else the newest there is."""
    installed = {int(path.parent.name): path for path in home.glob("*/bin") if (path / "postgres").exists()}
    if not installed:
        raise StackError("PostgreSQL is not installed: apt-get install postgresql")
    try:
        version = int((layout.postgres_data / "PG_VERSION").read_text())
    except FileNotFoundError:
        return installed[max(installed)]
    if version not in installed:
        raise StackError(f"{layout.postgres_data} was made by PostgreSQL {version}, which is not installed any more")
    return installed[version]


def make_cluster(tree: Tree) -> None:
    """Make the data directory, unless it is there. Half-made ones are under another name and thrown away."""
    layout = tree.layout
    if layout.postgres_data.is_dir():
        return
    half = layout.var / "postgres.new"
    if half.is_dir():
        shutil.rmtree(half)
    # Whoever may open the socket is trusted: its directory can be entered by the account (and root) alone.
    options = [
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        f"--username={ACCOUNT}",
        "--data-checksums",
    ]
    tree.run([str(bindir(layout) / "initdb"), *options, "--pgdata", str(layout.inside(half))], timeout=120)
    half.rename(layout.postgres_data)


def start(tree: Tree, names: list[str], *, fresh: bool) -> None:
    """Start the private servers in `names` and return when they answer; `fresh` says that the tree is new."""
    layout = tree.layout
    if "postgres" in names:
        make_cluster(tree)
        if fresh and layout.as_root:
            # Nothing of an earlier tree can be alive, but in a new PID namespace the pid in PostgreSQL's lock
            # file may by now be somebody else's, and it would refuse to start.
            (layout.postgres_data / "postmaster.pid").unlink(missing_ok=True)
    tree.control.start(names)
    if "postgres" in names:
        _wait_for_postgres(tree)
    if "redis" in names and not wait_for_socket(layout.redis_socket, _REDIS_SECONDS):
        raise StackError(f"Redis did not start: see {layout.log}/redis.log")


def _wait_for_postgres(tree: Tree) -> None:
    layout = tree.layout
    programs = bindir(layout)
    at = ["--host", str(layout.postgres_sockets), "--username", ACCOUNT]

    def ready() -> bool:
        asked = tree.run([str(programs / "pg_isready"), "--quiet", "--dbname=postgres", *at], check=False, timeout=20)
        return asked.returncode == 0

    if not wait_until(ready, seconds=_READY_SECONDS, interval=0.1):
        raise StackError(f"PostgreSQL did not start: see {layout.log}/postgres.log")
    query = f"select 1 from pg_database where datname = '{ACCOUNT}'"  # noqa: S608 - a constant
    found = tree.run([str(programs / "psql"), *at, "--dbname=postgres", "-Atc", query])
    if found.stdout.strip() != "1":
        tree.run([str(programs / "createdb"), *at, ACCOUNT])
