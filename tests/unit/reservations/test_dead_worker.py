"""What a worker had claimed when it was killed is free when it starts again."""

from datetime import timedelta

import pytest

from compute.models import Node
from reservations import claims
from reservations.models import Reservation
from reservations.transitions import Stale
from tests.factories import NOW, make_reservation

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "_owner", "")


def test_a_worker_that_starts_again_frees_its_own_claims_and_no_other(node: Node) -> None:
    mine, others = make_reservation(), make_reservation()
    claims.work_as("worker-2")
    assert claims.claim(others.pk, NOW)
    claims.work_as("worker-1")
    assert claims.claim(mine.pk, NOW)

    freed = claims.work_as("worker-1")

    assert freed == 1
    assert claims.claim(mine.pk, NOW + timedelta(seconds=1))
    assert claims.claim(others.pk, NOW + timedelta(seconds=1)) is None


def test_what_the_dead_worker_still_writes_is_refused(node: Node) -> None:
    reservation = make_reservation()
    claims.work_as("worker-1")
    dead = claims.claim(reservation.pk, NOW)
    assert dead is not None
    claims.work_as("worker-1")

    with pytest.raises(Stale):
        claims.renew(dead, NOW)

    assert Reservation.objects.get(pk=reservation.pk).claim_token is None
