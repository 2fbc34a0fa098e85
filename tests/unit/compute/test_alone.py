"""A machine that hangs takes one thread for each kind of look at it."""

from collections.abc import Callable

from compute.alone import one_at_a_time
from compute.tasks import check_guard
from reservations.tasks import check_disk, check_server, check_volumes_of, sweep_volumes_of, watch_node


def test_while_one_looks_at_a_machine_others_return_at_once() -> None:
    seen: list[int] = []
    meanwhile: Callable[[], None] = lambda: look(7)  # noqa: E731

    @one_at_a_time
    def look(machine: int) -> None:
        seen.append(machine)
        if len(seen) == 1:
            meanwhile()
            look(8)

    look(7)
    look(7)

    assert seen == [7, 8, 7]


def test_one_that_failed_is_not_taken_for_one_under_way() -> None:
    seen: list[int] = []

    @one_at_a_time
    def look(machine: int) -> None:
        seen.append(machine)
        raise ValueError

    for _ in range(2):
        try:
            look(7)
        except ValueError:
            continue

    assert seen == [7, 7]


def test_each_round_over_the_machines_is_so() -> None:
    for task in (watch_node, sweep_volumes_of, check_disk, check_server, check_volumes_of, check_guard):
        assert hasattr(task.run, "__wrapped__"), task.name
