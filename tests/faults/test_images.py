"""Images that are not there, and a registry that does not answer. Redis is what nobody else of the suite uses."""

from collections.abc import Iterator

import pytest

from lab import Lab
from tests.faults.case import Fault
from tests.faults.images import bring_image, forget_image
from tests.integration.desk import FINAL, Desk
from tests.live import wait_for

smoke = pytest.mark.smoke


@pytest.fixture
def redis_image(lab: Lab) -> None:
    forget_image(lab, "redis")


@pytest.fixture
def nginx_image(desk: Desk) -> None:
    """Whatever ran before: a case that stands alone, or whose bookings all came to one node, has it nowhere else."""
    bring_image(desk, "nginx")


@pytest.fixture
def unknown_digest(desk: Desk) -> Iterator[None]:
    [[before]] = desk.sql("SELECT digest FROM reservations_service WHERE slug = 'redis'")
    desk.sql("UPDATE reservations_service SET digest = %s WHERE slug = 'redis'", f"sha256:{'0' * 64}")
    yield
    desk.sql("UPDATE reservations_service SET digest = %s WHERE slug = 'redis'", before)


def test_the_image_is_missing(desk: Desk, fault: Fault, redis_image: None, unknown_digest: None) -> None:
    number = desk.book("redis", size="tiny")["id"]

    with fault.healing():
        wait_for(lambda: desk.get(number)["state"] in FINAL, seconds=60)
    assert desk.get(number)["state"] == "failed"
    assert "does not have" in desk.get(number)["reason"]


@smoke
def test_the_registry_is_down(desk: Desk, lab: Lab, fault: Fault, redis_image: None, nginx_image: None) -> None:
    lab.kill_daemon("registry", "registry")
    number = desk.book("redis", size="tiny")["id"]
    wait_for(lambda: "registry" in desk.get(number)["reason"], seconds=30)
    beside = desk.running("nginx", size="tiny")  # whose image is there: nobody waits for the registry

    with fault.healing():
        lab.start_daemon("registry", "registry")
        desk.until(number, "running", seconds=60)
    assert desk.fetch(beside) == "200"


@pytest.mark.faults(seconds=240)
def test_the_pull_hangs(desk: Desk, lab: Lab, fault: Fault, redis_image: None, nginx_image: None) -> None:
    lab.cut("registry")
    number = desk.book("redis", size="tiny")["id"]
    wait_for(lambda: desk.get(number)["state"] == "starting", seconds=10)
    beside = [desk.running("nginx", size="tiny") for _ in range(4)]
    wait_for(lambda: desk.get(number)["reason"], seconds=90)  # it is said, and does not hang for ever

    with fault.healing():
        lab.heal("registry")
        desk.until(number, "running", seconds=60)
    assert [desk.fetch(reservation) for reservation in beside] == ["200"] * 4
    assert desk.sql("SELECT count(*) FROM compute_node WHERE health <> 'ok'") == [(0,)]
