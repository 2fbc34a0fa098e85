"""Volumes: the data is there, the size is enforced, and each profile keeps or removes what it says."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab import Lab
from tests.integration.desk import Answer, Desk
from tests.live import wait_for

PAGES = "/usr/share/nginx/html"
PROFILES = ("C1", "C2", "C3")


@pytest.fixture(scope="module")
def by_profile(module_desk: Desk) -> dict[str, Answer]:
    """One nginx for each profile, started side by side; C1 with 2 GB."""
    sizes = {"C1": 2}
    booked = {
        code: module_desk.book("nginx", size="tiny", storage=code, storage_gb=sizes.get(code, 1))["id"]
        for code in PROFILES
    }
    return {code: module_desk.until(number, "running", seconds=60) for code, number in booked.items()}


def _volume(desk: Desk, number: int) -> str:
    [[volume]] = desk.sql("SELECT volume_id FROM reservations_container WHERE reservation_id = %s", number)
    return f"vol-{volume}"


def _stored(lab: Lab) -> set[str]:
    return set(lab.exec("storage", ["ls", "/var/lib/storage/volumes"]).stdout.split())


def _local(lab: Lab, node: str) -> set[str]:
    return set(lab.exec(node, ["sh", "-c", "ls /var/lib/berth/images 2>/dev/null || true"]).stdout.split())


@pytest.mark.parametrize("code", PROFILES)
def test_what_is_written_is_served(by_profile: dict[str, Answer], module_desk: Desk, code: str) -> None:
    reservation = by_profile[code]

    module_desk.inside(reservation, "sh", "-c", f"echo {code} >{PAGES}/page.txt")

    assert module_desk.fetch(reservation, "/page.txt") == "200"
    assert module_desk.fetch(reservation, "/other.txt") == "404"


@pytest.mark.parametrize(("code", "size_gb"), [("C1", 2), ("C2", 1), ("C3", 1)])
def test_the_size_is_enforced(by_profile: dict[str, Answer], module_desk: Desk, code: str, size_gb: int) -> None:
    reservation, mib = by_profile[code], size_gb * 1000**3 // 2**20

    too_much = module_desk.inside(reservation, "fallocate", "-l", f"{mib + 50}M", f"{PAGES}/big", check=False)
    module_desk.inside(reservation, "rm", "-f", f"{PAGES}/big")
    module_desk.inside(reservation, "fallocate", "-l", f"{mib // 2}M", f"{PAGES}/big")
    module_desk.inside(reservation, "rm", f"{PAGES}/big")

    assert "No space left" in too_much


def test_writing_beyond_the_size_fails(by_profile: dict[str, Answer], module_desk: Desk) -> None:
    reservation = by_profile["C1"]
    module_desk.inside(reservation, "sh", "-c", f"fallocate -l 1700M {PAGES}/most")

    said = module_desk.inside(reservation, "dd", "if=/dev/zero", f"of={PAGES}/more", "bs=1M", "count=400", check=False)
    module_desk.inside(reservation, "sh", "-c", f"rm {PAGES}/most {PAGES}/more")

    assert "No space left" in said


def test_the_images_are_where_the_profiles_say(by_profile: dict[str, Answer], module_desk: Desk, lab: Lab) -> None:
    images = {code: f"{_volume(module_desk, reservation['id'])}.img" for code, reservation in by_profile.items()}

    assert images["C1"] in _local(lab, by_profile["C1"]["node"])
    assert {images["C2"], images["C3"]} <= _stored(lab)
    assert by_profile["C3"]["volume"]
    assert by_profile["C2"]["volume"] is None


def test_only_kept_data_outlives_its_reservation(desk: Desk, lab: Lab) -> None:
    booked = {code: desk.book("nginx", size="tiny", storage=code)["id"] for code in PROFILES}
    running = {code: desk.until(number, "running", seconds=60) for code, number in booked.items()}
    images = {code: f"{_volume(desk, number)}.img" for code, number in booked.items()}
    desk.inside(running["C3"], "sh", "-c", f"echo mine >{PAGES}/kept.txt && sync")

    desk.delete_and_wait(*booked.values())

    assert images["C1"] not in _local(lab, running["C1"]["node"])
    assert images["C2"] not in _stored(lab)
    assert images["C3"] in _stored(lab)
    volume = running["C3"]["volume"]
    again = desk.running("nginx", size="tiny", storage="C3", volume=volume)
    assert desk.fetch(again, "/kept.txt") == "200"
    assert _volume(desk, again["id"]) == images["C3"].removesuffix(".img")


def test_a_kept_volume_goes_to_one_reservation_at_a_time(desk: Desk) -> None:
    first = desk.running("nginx", size="tiny", storage="C3")
    refused = desk.try_to_book("nginx", size="tiny", storage="C3", volume=first["volume"])
    desk.delete_and_wait(first["id"])
    together = threading.Barrier(2)

    def book() -> int:
        together.wait(5)
        return desk.try_to_book("nginx", size="tiny", storage="C3", volume=first["volume"]).status_code

    with ThreadPoolExecutor(2) as pool:
        answers = [future.result() for future in [pool.submit(book) for _ in range(2)]]

    assert (refused.status_code, refused.json()["code"]) == (409, "volume_taken")
    assert sorted(answers) == [201, 409]
    wait_for(lambda: desk.get(desk.booked[-1])["state"] == "running", seconds=30)


def test_another_services_or_an_unknown_volume_is_refused(by_profile: dict[str, Answer], module_desk: Desk) -> None:
    other = module_desk.try_to_book("redis", storage="C3", volume=by_profile["C3"]["volume"])
    unknown = module_desk.try_to_book("nginx", storage="C3", volume="nobodys")

    assert (other.status_code, "volume" in other.json()["errors"]) == (422, True)
    assert (unknown.status_code, "volume" in unknown.json()["errors"]) == (422, True)
