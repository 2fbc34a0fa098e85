"""What can be said of a booking without looking at who holds what: its own size, and an exact end."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.models import Workspace
from reservations import checking
from reservations.checking import InvalidBooking
from reservations.sizes import CustomSize
from tests.factories import NOW, make_booking, make_node, make_reservation, make_service, make_user, workspace_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def workspace() -> Workspace:
    make_node(ram_mib=8192, cores=4)
    return workspace_of(make_user())


def problems(workspace: Workspace, **values: Any) -> dict[str, str]:
    try:
        checking.check(make_booking(**values), workspace, NOW)
    except InvalidBooking as problem:
        return problem.problems
    return {}


def size(cores: str, ram_mib: int) -> CustomSize:
    return CustomSize(Decimal(cores), ram_mib)


@pytest.mark.parametrize("good", [size("0.25", 64), size("1.75", 1088), size("4", 8192)])
def test_a_size_of_ones_own(good: CustomSize, workspace: Workspace) -> None:
    assert problems(workspace, size=good, service=make_service(min_ram_mib=64)) == {}


@pytest.mark.parametrize(
    ("bad", "field", "says"),
    [
        (size("0", 512), "cores", "steps of 0.25"),
        (size("-1", 512), "cores", "steps of 0.25"),
        (size("0.3", 512), "cores", "steps of 0.25"),
        (size("8.25", 512), "cores", "quota of .* allows 8 cores"),
        (size("4.25", 512), "cores", "largest compute node lends 4 cores"),
        (size("1", 0), "ram_mib", "steps of 64 MiB"),
        (size("1", 63), "ram_mib", "steps of 64 MiB"),
        (size("1", 100), "ram_mib", "steps of 64 MiB"),
        (size("1", 64), "ram_mib", "needs at least 128 MiB"),
        (size("1", 16_448), "ram_mib", "quota of .* allows 16384 MiB"),
        (size("1", 8256), "ram_mib", "largest compute node lends 8192 MiB"),
    ],
)
def test_a_size_that_cannot_be_is_refused_at_its_field(
    bad: CustomSize, field: str, says: str, workspace: Workspace
) -> None:
    found = problems(workspace, size=bad, service=make_service(min_ram_mib=128))

    assert list(found) == [field]
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(found[field])


def test_what_was_booked_has_the_size_that_was_set(workspace: Workspace) -> None:
    row = make_reservation(size=size("1.75", 1088))

    assert (row.cores, row.ram_mib, row.size_text) == (Decimal("1.75"), 1088, "1.75 cores, 1088 MiB")


def at(hours: float) -> datetime:
    return NOW.replace(minute=0, second=0, microsecond=0) + timedelta(hours=hours)


def test_an_exact_end_wins_over_the_length(workspace: Workspace) -> None:
    booking = make_booking(start=NOW, end=at(3.25), length=timedelta(hours=1))

    assert checking.check(booking, workspace, NOW) == (NOW, at(3.25))
    assert booking.lasts(NOW) == at(3.25) - NOW


def test_what_begins_now_may_end_at_a_quarter_of_an_hour(workspace: Workspace) -> None:
    now = NOW + timedelta(minutes=7, seconds=31)

    assert checking.check(make_booking(end=at(2)), workspace, now) == (now, at(2))


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        (at(4), at(3), "after the start"),
        (at(4), at(4), "after the start"),
        (None, at(-1), "after the start"),
        (at(1), at(2) + timedelta(minutes=5), "full 15 minutes"),
        (at(1), at(2) + timedelta(microseconds=1), "full 15 minutes"),
        (at(1), at(24 * 32 + 1), "At most 744 hours"),
        (at(1), datetime.max.replace(tzinfo=NOW.tzinfo, minute=45, second=0, microsecond=0), "At most 744 hours"),
    ],
)
def test_an_end_that_cannot_be_is_refused_at_its_field(
    start: datetime | None, end: datetime, says: str, workspace: Workspace
) -> None:
    found = problems(workspace, start=start, end=end)

    assert list(found) == ["end"]
    assert says in found["end"]
