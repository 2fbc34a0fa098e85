"""After SECRET_KEY was changed: credentials read as {}, and nothing else breaks."""

from typing import Any

import pytest

from reservations.models import Reservation
from tests.factories import make_node, make_reservation, make_service
from tests.unit.conftest import Machines
from tests.unit.reservations.looks import nothing_is_left

pytestmark = pytest.mark.django_db


def test_how_to_connect_has_a_question_mark_for_what_is_not_known(settings: Any) -> None:
    make_node()
    make_reservation(service=make_service("redis", connect=["redis-cli -h {host} -p {port_web} -a {password}"]))
    settings.SECRET_KEY = "another"

    (command,) = Reservation.objects.get().connect_commands

    assert command.startswith("redis-cli -h 198.18.0.1 -p 2")
    assert command.endswith("-a ?")


@pytest.mark.parametrize(
    "where", [{"environment": {"P": "{password}"}}, {"environment": {}, "command": ["--requirepass", "{password}"]}]
)
def test_it_is_not_started_with_wrong_credentials_but_fails_with_a_sentence(
    where: dict[str, Any], machines: Machines, settings: Any
) -> None:
    make_node()
    reservation = make_reservation(service=make_service(**where))
    settings.SECRET_KEY = "another"

    failed = machines.settle(reservation)

    assert failed.state == "failed"
    assert failed.failure.startswith("It could not be started: its credentials cannot be read any more: ")
    assert nothing_is_left(machines)
