"""The customer's container is a closed room: everything that the probe tries comes to nothing."""

import json
import re

import pytest

from lab import Lab, probe
from lab.probe import Result
from tests.integration.desk import Desk
from tests.live import RunningStack, wait_for


@pytest.fixture(scope="module")
def tried(lab: Lab, stack: RunningStack, module_desk: Desk) -> list[Result]:
    return probe.run(lab.name, stack.name, print)


def test_nothing_that_is_tried_from_inside_works(tried: list[Result]) -> None:
    wrong = [result for result in tried if not result.right]

    assert not wrong, "\n".join(probe.table(wrong))


def test_both_kinds_of_rooms_were_tried_in_every_way(tried: list[Result]) -> None:
    groups = {"other tenants", "machines", "the wire", "the kernel", "files", "privileges", "limits"}

    assert {(r.room, r.case.group) for r in tried} == {(s, g) for s in probe.SERVICES for g in groups}


def test_a_try_can_succeed_and_be_told(tried: list[Result]) -> None:
    """The probe says "open" where it may, so that "blocked" means something."""
    opened = {(r.room, r.case.what) for r in tried if r.actual == "open"}

    assert {("shell", "the internet"), ("nginx", "its own service (it can say yes)")} <= opened
    assert ("nginx", "the internet") not in opened
    assert all(r.control == "open" for r in tried if r.case.control is not None)


def test_the_table_and_the_json_have_every_try(tried: list[Result]) -> None:
    assert f"{len(tried)} tries, 0 not as expected" in probe.table(tried)[-1]
    assert len(json.loads(probe.as_json(tried))) == len(tried)


def test_a_container_that_fills_its_disk_is_ended_with_a_reason(desk: Desk) -> None:
    desk.sql("UPDATE reservations_service SET writes_mib = 64 WHERE slug = 'shell'")
    try:
        reservation = desk.running("shell", size="tiny")
        desk.inside(reservation, "dd", "if=/dev/zero", "of=/root/filled", "bs=1M", "count=100", "status=none")

        over = wait_for(lambda: (found := desk.get(reservation["id"]))["state"] == "failed" and found, seconds=60)
    finally:
        desk.sql("UPDATE reservations_service SET writes_mib = 1024 WHERE slug = 'shell'")

    # It may be looked at while it still writes.
    assert re.search(r"wrote more on its own disk than it may: \d+ MiB, and 64 MiB are allowed", over["reason"])
    assert not desk.on_node(reservation["node"], desk.container(reservation["id"]))


def test_what_is_written_on_the_volume_does_not_count(desk: Desk) -> None:
    desk.sql("UPDATE reservations_service SET writes_mib = 64 WHERE slug = 'shell'")
    try:
        reservation = desk.running("shell", size="tiny")
        desk.inside(reservation, "dd", "if=/dev/zero", "of=/config/filled", "bs=1M", "count=100", "status=none")
        measured = _wait_for_a_round(desk)
    finally:
        desk.sql("UPDATE reservations_service SET writes_mib = 1024 WHERE slug = 'shell'")

    assert measured
    assert desk.get(reservation["id"])["state"] == "running"


def _wait_for_a_round(desk: Desk) -> bool:
    """Let the disks be looked at once more, as the timetable would."""
    code = (
        "from django.utils import timezone; from compute.models import Node; from reservations import disk;"
        "[disk.check(node, timezone.now()) for node in Node.objects.present()]"
    )
    return desk.stack.run_manage("shell", "-c", code).returncode == 0
