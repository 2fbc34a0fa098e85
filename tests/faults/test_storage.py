"""The storage server goes away, hangs or comes back, and so does what connects a node to it."""

from collections.abc import Iterator

import pytest

from lab import Lab
from tests.faults.case import Fault
from tests.integration.desk import FINAL, Answer, Desk
from tests.live import wait_for

smoke = pytest.mark.smoke
PAGES = "/usr/share/nginx/html"
SEEN_WITHIN_S = 60


def put(desk: Desk, reservation: Answer, name: str) -> None:
    desk.inside(reservation, "sh", "-c", f"echo mine >{PAGES}/{name} && sync {PAGES}/{name}")


def notes(desk: Desk, number: int) -> list[str]:
    return list(desk.get(number)["notes"])


def whole(desk: Desk, number: int) -> bool:
    """It runs, and nothing is to be told about its storage."""
    found = desk.get(number)
    return found["state"] == "running" and not found["notes"]


def mounted_anew(desk: Desk, number: int) -> int:
    return sum("mounted anew" in text for _, text in desk.history(number))


def volume_of(desk: Desk, number: int) -> str:
    [[volume]] = desk.sql("SELECT volume_id FROM reservations_container WHERE reservation_id = %s", number)
    return f"vol-{volume}"


def on_node(lab: Lab, node: str, name: str) -> str:
    """Mounts and sshfs processes of the volume."""
    script = f"grep -w {name} /proc/self/mountinfo; pgrep -af '[s]shfs.*/{name}$' || true"
    return lab.exec(node, ["sh", "-c", script], check=False).stdout


@pytest.fixture
def hang(lab: Lab, fault: Fault) -> Iterator[None]:
    """The storage server's disk hangs, as its clients see it: sshd answers, and what reads and writes does not."""

    def tell(signal: str) -> None:
        lab.exec("storage", ["pkill", f"-{signal}", "-xf", "sshd: berth@internal-sftp"], check=False)

    tell("STOP")
    yield
    tell("CONT")


@smoke
@pytest.mark.faults(seconds=200)
def test_the_storage_server_is_gone_before_the_mount(desk: Desk, lab: Lab, fault: Fault) -> None:
    lab.cut("storage")
    number = desk.book("nginx", size="tiny", storage="C2")["id"]
    wait_for(lambda: "storage server" in desk.get(number)["reason"], seconds=60)
    beside = desk.running("nginx", size="tiny")
    wait_for(lambda: desk.sql("SELECT problem FROM compute_storageserver")[0][0], seconds=SEEN_WITHIN_S)
    refused = desk.try_to_book("nginx", size="tiny", storage="C3")
    assert (refused.status_code, refused.json()["code"]) == (409, "no_capacity")
    assert "storage server" in refused.json()["detail"]
    assert "storage: could not be checked" in desk.stack.run_manage("doctor", check=False).stdout

    with fault.healing():
        lab.heal("storage")
        desk.until(number, "running", seconds=60)
    assert desk.fetch(beside) == "200"


@smoke
@pytest.mark.faults(seconds=260)
def test_the_storage_server_is_away_while_it_runs(desk: Desk, lab: Lab, fault: Fault) -> None:
    reservation = desk.running("nginx", size="tiny", storage="C2", seconds=60)
    number = reservation["id"]
    put(desk, reservation, "before.txt")
    lab.cut("storage")
    wait_for(lambda: notes(desk, number), seconds=SEEN_WITHIN_S + 30)
    beside = desk.running("nginx", size="tiny")  # nobody else waits
    assert desk.fetch(beside) == "200"
    wait_for(lambda: "read" in " ".join(notes(desk, number)), seconds=60)
    assert f"{volume_of(desk, number)} is degraded" in desk.stack.run_manage("doctor", check=False).stdout

    with fault.healing():
        lab.heal("storage")
        wait_for(lambda: whole(desk, number), seconds=60)
    assert desk.fetch(reservation, "/before.txt") == "200"
    put(desk, reservation, "after.txt")
    assert mounted_anew(desk, number) == 1
    assert desk.get(number)["node"] == reservation["node"]


@pytest.mark.faults(seconds=240)
def test_the_storage_server_goes_at_the_unmount(desk: Desk, lab: Lab, fault: Fault) -> None:
    reservation = desk.running("nginx", size="tiny", storage="C2", seconds=60)
    number, name = reservation["id"], volume_of(desk, reservation["id"])
    lab.cut("storage")
    desk.delete(number)
    wait_for(lambda: not on_node(lab, reservation["node"], name), seconds=120)
    assert desk.get(number)["state"] == "ending"  # its image is still on the server
    assert desk.fetch(reservation) == "000"

    with fault.healing():
        lab.heal("storage")
        wait_for(lambda: desk.get(number)["state"] in FINAL, seconds=60)
    assert f"{name}.img" not in lab.exec("storage", ["ls", "/var/lib/storage/volumes"]).stdout.split()


@smoke
@pytest.mark.faults(seconds=200)
def test_the_sshfs_of_a_volume_is_killed(desk: Desk, lab: Lab, fault: Fault) -> None:
    reservation = desk.running("nginx", size="tiny", storage="C3", seconds=60)
    number, name = reservation["id"], volume_of(desk, reservation["id"])
    put(desk, reservation, "before.txt")
    lab.exec(reservation["node"], ["pkill", "-KILL", "-xf", f"sshfs .*/{name}"])

    with fault.healing():
        wait_for(lambda: mounted_anew(desk, number) and whole(desk, number), seconds=60)
    assert desk.fetch(reservation, "/before.txt") == "200"
    put(desk, reservation, "after.txt")


@pytest.mark.faults(seconds=300)
def test_the_storage_server_hangs_while_it_runs(
    desk: Desk, lab: Lab, fault: Fault, request: pytest.FixtureRequest
) -> None:
    reservation = desk.running("nginx", size="tiny", storage="C2", seconds=60)
    number = reservation["id"]
    put(desk, reservation, "before.txt")
    request.getfixturevalue("hang")
    desk.lab.exec(
        reservation["node"],
        ["docker", "exec", "-d", desk.container(number), "sh", "-c", f"echo x >{PAGES}/hangs; sync"],
    )
    wait_for(lambda: notes(desk, number), seconds=SEEN_WITHIN_S)
    desk.sql("UPDATE compute_node SET state = 'cordoned' WHERE name <> %s", reservation["node"])
    # On the same engine. mkfs waits for a hanging sync(2) of anybody on its node, until the store is cut off.
    beside = desk.running("nginx", size="tiny", seconds=100)
    desk.sql("UPDATE compute_node SET state = 'active'")
    assert desk.fetch(beside) == "200"

    with fault.healing():
        lab.exec("storage", ["pkill", "-CONT", "-xf", "sshd: berth@internal-sftp"], check=False)
        wait_for(lambda: whole(desk, number), seconds=60)
    assert desk.fetch(reservation, "/before.txt") == "200"


@pytest.mark.faults(seconds=300)
def test_a_reservation_whose_storage_hangs_can_be_deleted(
    desk: Desk, lab: Lab, fault: Fault, request: pytest.FixtureRequest
) -> None:
    reservation = desk.running("nginx", size="tiny", storage="C3", seconds=60)
    number, name = reservation["id"], volume_of(desk, reservation["id"])
    request.getfixturevalue("hang")
    container = desk.container(number)
    desk.lab.exec(reservation["node"], ["docker", "exec", "-d", container, "sh", "-c", f"echo x >{PAGES}/hangs; sync"])
    desk.delete(number)
    beside = desk.running("nginx", size="tiny", seconds=100)
    assert desk.fetch(beside) == "200"
    assert desk.fetch(reservation) == "000"

    with fault.healing():
        lab.exec("storage", ["pkill", "-CONT", "-xf", "sshd: berth@internal-sftp"], check=False)
        wait_for(lambda: desk.get(number)["state"] in FINAL, seconds=60)
    assert not on_node(lab, reservation["node"], name)
    assert f"{name}.img" in lab.exec("storage", ["ls", "/var/lib/storage/volumes"]).stdout.split()
