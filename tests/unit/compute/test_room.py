"""The fleet in memory chooses as the scheduler over the rows does, also after some was given in the preview."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from compute import capacity
from compute.capacity import NoCapacity
from compute.models import Allocation, LoadStep, Node
from compute.room import Room
from compute.scheduler import Candidate, Request, Short
from tests.factories import NOW, at, make_node

pytestmark = pytest.mark.django_db
REST = timedelta(0)
REQUESTS = st.builds(
    lambda ram, cores, start, length, host: Request(ram * 256, Decimal(cores) / 4, at(start), at(start + length), host),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 5),
    st.integers(1, 4),
    st.booleans(),
)
FLEETS = st.lists(st.tuples(st.integers(2, 8), st.integers(1, 4), st.booleans(), st.booleans()), max_size=4)


def small(ram_mib: int = 512, start: float = 0, hours: float = 1) -> Request:
    return Request(ram_mib, Decimal("0.5"), at(start), at(start + hours))


def name_of(choice: Candidate | Short) -> str:
    return choice.name if isinstance(choice, Candidate) else choice.value


@hypothesis_settings(max_examples=60)
@given(fleet=FLEETS, requests=st.lists(REQUESTS, max_size=14), excluded=st.integers(0, 3))
def test_it_chooses_what_capacity_chooses_and_remembers_what_it_gave(
    fleet: list[tuple[int, int, bool, bool]], requests: list[Request], excluded: int
) -> None:
    Allocation.objects.all().delete()
    LoadStep.objects.all().delete()
    Node.objects.all().delete()
    nodes = [
        make_node(ram_mib=ram * 512, cores=cores, ssh="root@x" if host else "", disk_problem="" if well else "full")
        for ram, cores, host, well in fleet
    ]
    exclude = [node.pk for node in nodes[:excluded]][-1:]
    before, after = requests[: len(requests) // 2], requests[len(requests) // 2 :]
    for request in before:
        give(request, [])
    room = Room.read()

    seen = []
    for request in after:
        choice = room.choose(request, exclude)
        if isinstance(choice, Candidate):
            room.hold(choice.node_id, request)
        seen.append(choice)

    assert seen == [give(request, exclude) for request in after]


def give(request: Request, exclude: list[int]) -> Candidate | Short:
    """For real."""
    choice = capacity.choose(request, exclude)
    if isinstance(choice, Candidate):
        capacity.place(request, [], rest=REST, exclude=exclude)
    return choice


def test_one_query_whatever_the_size(django_assert_num_queries: object) -> None:
    for _ in range(5):
        make_node()
    capacity.place(small(), [], rest=REST)

    with django_assert_num_queries(1):  # type: ignore[operator]
        room = Room.read()
        for start in range(10):
            room.choose(small(start=start))

    assert len(room.lines) == 5


def test_what_was_given_is_forgotten_when_asked(machines: object) -> None:
    node = make_node(ram_mib=512)
    room = Room.read()
    room.hold(node.pk, small())
    full = room.choose(small())
    room.forget()

    assert full == Short.RAM
    assert name_of(room.choose(small())) == node.name


def test_what_is_late_in_leaving_is_in_the_way_of_what_begins_now() -> None:
    node = make_node(ram_mib=1024)
    allocation, _ = capacity.place(small(1024), [], rest=REST)
    capacity.take(allocation, NOW)
    room = Room.read()

    later = small(1024, start=2)

    assert name_of(room.choose(later)) == node.name
    assert not room.can_take(node.pk, later)
    with pytest.raises(NoCapacity):
        capacity.place(small(1024), [], rest=REST)


def test_how_many_more_fit_is_what_can_be_placed() -> None:
    make_node(ram_mib=2048, cores=2)
    make_node(ram_mib=4096, cores=1, ssh="")
    capacity.place(small(1024), [], rest=REST)

    counted = Room.read().count(small())
    placed = 0
    while not isinstance(capacity.choose(small()), Short):
        capacity.place(small(), [], rest=REST)
        placed += 1

    assert counted == placed > 0
