"""A backup that was made of the running portal is restored into an empty one: rows, kept volumes, and work goes on.

The disaster: the portal's database is gone, and so is all that the storage server had. From then on the portal runs on
the restored database.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from lab import Lab
from tests.integration.desk import Answer, Desk
from tests.live import RunningStack, wait_for

PAGES = "/usr/share/nginx/html"
STORED = "/var/lib/storage"
NOT_KEPT = {"compute_sample", "compute_containersample", "compute_nodeminute", "compute_containerminute"}
PROGRAMS = ("live", "beat", "worker", "web")


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left(module_desk: Desk) -> Iterator[None]:
    """Whatever failed here, no volume of this module stays behind, and no one but this module fails."""
    before = {volume["id"] for volume in module_desk.api.get("/volumes")}
    yield
    module_desk.clear()
    for volume in module_desk.api.get("/volumes"):
        if volume["id"] not in before:
            module_desk.api.delete(f"/volumes/{volume['id']}")


@pytest.fixture(scope="module")
def data(module_desk: Desk, nothing_is_left: None) -> Answer:
    """A reservation of which a kept volume was left, with a page in it."""
    first = module_desk.running("nginx", size="tiny", storage="C3", seconds=60)
    module_desk.inside(first, "sh", "-c", f"echo 'written before the fire' >{PAGES}/kept.txt")
    module_desk.inside(first, "sh", "-c", f"dd if=/dev/urandom of={PAGES}/large bs=1M count=20 2>/dev/null; sync")
    first["sum"] = module_desk.inside(first, "sha256sum", f"{PAGES}/large").split()[0]
    module_desk.delete_and_wait(first["id"])
    module_desk.booked.remove(first["id"])
    return first


@pytest.fixture(scope="module")
def busy(module_desk: Desk, nothing_is_left: None) -> Answer:
    """A reservation that runs with a kept volume, and goes on through all of this."""
    found = module_desk.running("nginx", size="tiny", storage="C3", seconds=60)
    module_desk.inside(found, "sh", "-c", f"echo 'in use' >{PAGES}/busy.txt && sync")
    return found


def stored(lab: Lab) -> dict[str, int]:
    """The images that the storage server has, with their sizes."""
    listing = lab.exec("storage", ["find", f"{STORED}/volumes", "-type", "f", "-printf", "%f %s\n"]).stdout
    return {name: int(size) for name, size in (line.split() for line in listing.splitlines())}


def checksums(desk: Desk, database: str) -> dict[str, str]:
    """Number of rows and a checksum over all of them, of each table of a database of the portal's server."""
    found = {}
    with psycopg.connect(_address(desk), dbname=database) as there:
        names = there.execute(
            "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE nspname = 'public' AND relkind IN ('r', 'p') AND NOT relispartition"
        ).fetchall()
        for (name,) in names:
            query = f"SELECT count(*) || md5(coalesce(string_agg(t::text, ';' ORDER BY t::text), '')) FROM {name} t"  # noqa: S608
            found[name] = there.execute(query.encode()).fetchone()[0]  # type: ignore[index]
    return found


@dataclass
class Made:
    """A backup, and the checksums of the database that it is of."""

    folder: Path
    of_tables: dict[str, str]

    @property
    def volumes(self) -> dict[str, Answer]:
        """By the name that their workspace gave them."""
        return {volume["name"]: volume for volume in json.loads((self.folder / "manifest.json").read_text())["volumes"]}


@pytest.fixture(scope="module")
def backup(data: Answer, busy: Answer, module_desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Made while nothing else is written, so that what comes back can be compared."""
    stack = module_desk.stack
    stack.stop("beat", "worker")
    try:
        for _ in range(3):  # on a busy machine a GB may take longer than a volume in use may be frozen
            folder = tmp_path_factory.mktemp("backups")
            ours = [f"--volume={row['volume']}" for row in (data, busy)]  # other tests have left theirs
            said = stack.run_manage("backup", str(folder), "--freeze=15", *ours, check=False, timeout=180)
            if said.returncode != 2:
                break
        assert said.returncode == 0, said.stdout + said.stderr
        of_tables = checksums(module_desk, "berth")
    finally:  # without them, every test after this one would wait in vain
        stack.start("worker", "beat")
        stack.wait_ready()
    [made] = [path for path in folder.iterdir() if path.name.startswith("berth-")]
    return Made(made, of_tables)


def test_the_backup_has_what_is_kept(backup: Made, data: Answer, busy: Answer, module_desk: Desk) -> None:
    verified = module_desk.stack.run_manage("backup", "--verify", str(backup.folder)).stdout

    assert "is whole" in verified
    assert backup.volumes[data["volume"]]["size"] == 10**9
    assert 20_000_000 < backup.volumes[data["volume"]]["file"]["bytes"] < 60_000_000
    assert [backup.volumes[row["volume"]]["frozen"] for row in (data, busy)] == [False, True]
    module_desk.inside(busy, "sh", "-c", f"echo more >{PAGES}/more.txt")  # it can be written to again


def test_nothing_is_restored_over_the_portal_that_runs(backup: Made, module_desk: Desk) -> None:
    said = module_desk.stack.run_manage("restore", str(backup.folder), check=False)

    assert said.returncode == 1
    assert re.search("stop web, worker, beat and live first|it is not empty", said.stderr)


def test_a_volume_that_is_there_is_left_as_it_is(backup: Made, data: Answer, module_desk: Desk, lab: Lab) -> None:
    before = stored(lab)

    said = module_desk.stack.run_manage("restore", str(backup.folder), "--only-volumes", "--volume", data["volume"])

    assert "is there already, with the same content" in said.stdout
    assert stored(lab) == before


def test_rows_and_volumes_come_back_into_an_empty_portal(
    backup: Made, busy: Answer, module_desk: Desk, lab: Lab
) -> None:
    stack = module_desk.stack
    images = {f"vol-{volume['number']}.img": volume["size"] for volume in backup.volumes.values()}
    module_desk.delete_and_wait(busy["id"])  # as if its node had lost it, too
    stack.stop(*PROGRAMS)
    try:
        _burn_down(module_desk, lab)
        try:
            said = _restore(stack, backup.folder)
            after = checksums(module_desk, "restored")
            found = stored(lab)
        except BaseException:
            _put_out(module_desk, lab)
            raise
        _use_restored(module_desk)
        _find_what_was_not_in_the_backup(lab)
    finally:
        stack.start(*reversed(PROGRAMS))
        stack.wait_ready()

    assert "NOT RESTORED" not in said
    assert found == images
    different = {name for name in after if backup.of_tables[name] != after[name]}
    # Each command writes into the audit log after its work; samples by the minute are not kept.
    assert different - NOT_KEPT == {"accounts_auditentry"}
    [[action]] = module_desk.sql(
        "SELECT action FROM accounts_auditentry WHERE action LIKE 'backup%%' ORDER BY id DESC LIMIT 1"
    )
    assert action == "backup.restore"


def _burn_down(desk: Desk, lab: Lab) -> None:
    """An empty database beside the one that was, and a storage server as on its first day."""
    desk.sql("DROP DATABASE IF EXISTS restored WITH (FORCE)")
    desk.sql("CREATE DATABASE restored TEMPLATE template0 ENCODING 'UTF8'")
    lab.exec("storage", ["sh", "-c", f"rm -rf {STORED}/burnt; mv {STORED}/volumes {STORED}/burnt"])
    lab.exec("storage", ["install", "-d", "-m", "750", "-o", "berth", "-g", "berth", f"{STORED}/volumes"])


def _put_out(desk: Desk, lab: Lab) -> None:
    """As it was before: the portal goes on with its first database, and with the volumes that are in it."""
    lab.exec("storage", ["sh", "-c", f"rm -rf {STORED}/volumes && mv {STORED}/burnt {STORED}/volumes"])
    desk.sql("DROP DATABASE IF EXISTS restored WITH (FORCE)")


def _find_what_was_not_in_the_backup(lab: Lab) -> None:
    """The volumes of other tests: doctor would miss them."""
    move = f"cd {STORED}/burnt; for file in *; do [ -e ../volumes/$file ] || mv $file ../volumes/; done"
    lab.exec("storage", ["sh", "-c", f"{move}; rm -rf {STORED}/burnt"])


def _restore(stack: RunningStack, made: Path) -> str:
    stack.env = dict(stack.env) | {"DATABASE_URL": stack.env["DATABASE_URL"].rsplit("/", 1)[0] + "/restored"}
    try:
        return stack.run_manage("restore", str(made), timeout=180).stdout
    finally:
        stack.env = stack.stack.env


def _address(desk: Desk) -> str:
    with desk.stack.database() as ours:
        return ours.info.dsn


def _use_restored(desk: Desk) -> None:
    """From now on the portal's database is the restored one."""
    with psycopg.connect(_address(desk), dbname="template1", autocommit=True) as there:
        there.execute("DROP DATABASE IF EXISTS burnt WITH (FORCE)")
        there.execute("ALTER DATABASE berth RENAME TO burnt")
        there.execute("ALTER DATABASE restored RENAME TO berth")
        there.execute("DROP DATABASE burnt")


def test_what_ran_when_the_backup_was_made_runs_again(backup: Made, busy: Answer, module_desk: Desk) -> None:
    module_desk.until(busy["id"], "running")
    wait_for(lambda: module_desk.fetch(busy, "/busy.txt") == "200", seconds=90)

    assert module_desk.fetch(busy, "/more.txt") == "404"  # that was written later


def test_a_kept_volume_is_booked_and_has_its_data(backup: Made, data: Answer, busy: Answer, module_desk: Desk) -> None:
    again = module_desk.running("nginx", size="tiny", storage="C3", volume=data["volume"], seconds=60)

    assert module_desk.fetch(again, "/kept.txt") == "200"
    assert module_desk.inside(again, "sha256sum", f"{PAGES}/large").split()[0] == data["sum"]
    assert again["id"] > busy["id"]


def test_doctor_finds_nothing(module_desk: Desk) -> None:
    wait_for(lambda: not module_desk.stack.run_manage("doctor", check=False).returncode, seconds=60, interval=3)
