"""One worker at a time works on a reservation."""

import uuid
from datetime import timedelta

import pytest
from django.db import OperationalError, connection

from reservations.claims import CLAIM_LASTS, claim, let_go, renew, return_late
from reservations.models import Reservation
from reservations.transitions import Stale
from tests.factories import NOW, make_node, make_reservation

pytestmark = pytest.mark.django_db
OTHERS = uuid.uuid4()


@pytest.fixture
def reservation() -> Reservation:
    make_node()
    return make_reservation()


def test_a_second_worker_gets_nothing(reservation: Reservation) -> None:
    assert claim(reservation.pk, NOW) == reservation
    assert claim(reservation.pk, NOW) is None


def test_a_claim_of_a_worker_that_died_expires(reservation: Reservation) -> None:
    first = claim(reservation.pk, NOW)
    second = claim(reservation.pk, NOW + CLAIM_LASTS)

    assert first
    assert second
    assert first.claim_token != second.claim_token
    with pytest.raises(Stale):
        renew(first, NOW + CLAIM_LASTS)


def test_a_renewed_claim_lasts_longer(reservation: Reservation) -> None:
    first = claim(reservation.pk, NOW)
    assert first
    renew(first, NOW + timedelta(seconds=60))

    assert claim(reservation.pk, NOW + CLAIM_LASTS) is None


def test_a_claim_that_was_given_back_is_free_at_once(reservation: Reservation) -> None:
    first = claim(reservation.pk, NOW)
    assert first
    let_go(first.pk, first.claim_token)

    assert claim(reservation.pk, NOW)


def test_a_late_worker_does_not_give_back_the_claim_of_the_next(reservation: Reservation) -> None:
    first = claim(reservation.pk, NOW)
    second = claim(reservation.pk, NOW + CLAIM_LASTS)
    assert first
    assert second

    let_go(reservation.pk, first.claim_token)

    assert Reservation.objects.get().claim_token == second.claim_token


@pytest.mark.parametrize("state", ["ended", "failed"])
def test_nobody_works_on_what_is_over(state: str, reservation: Reservation) -> None:
    Reservation.objects.update(state=state)

    assert claim(reservation.pk, NOW) is None


def test_a_claim_is_lost_when_the_reservation_is_moved(reservation: Reservation) -> None:
    first = claim(reservation.pk, NOW)
    assert first
    Reservation.objects.update(state="ending")

    with pytest.raises(Stale):
        renew(first, NOW)


# ---- the database goes away ---------------------------------------------------------------------------------


def _lose_the_database() -> None:
    """The server hangs up on us, as at its restart."""
    with pytest.raises(OperationalError), connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def _claim_that_cannot_be_given_back(reservation: Reservation) -> Reservation:
    first = claim(reservation.pk, NOW)
    assert first
    _lose_the_database()
    with pytest.raises(OperationalError):
        let_go(first.pk, first.claim_token)
    return first


def _new_connection() -> None:
    """As before each task."""
    connection.close()


@pytest.mark.django_db(transaction=True)
def test_a_claim_that_could_not_be_given_back_is_free_at_the_next_look(reservation: Reservation) -> None:
    _claim_that_cannot_be_given_back(reservation)
    with pytest.raises(OperationalError):
        claim(reservation.pk, NOW)
    _new_connection()

    assert claim(reservation.pk, NOW)


@pytest.mark.django_db(transaction=True)
def test_what_comes_back_late_is_not_taken_from_the_next_worker(reservation: Reservation) -> None:
    first = _claim_that_cannot_be_given_back(reservation)
    _new_connection()
    Reservation.objects.update(claim_token=OTHERS)

    return_late()
    Reservation.objects.update(claim_token=first.claim_token)  # once is enough: it is not remembered for good
    return_late()

    assert Reservation.objects.get().claim_token == first.claim_token


@pytest.mark.django_db(transaction=True)
def test_a_claim_whose_answer_was_lost_is_free_at_the_next_look(
    reservation: Reservation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row says that we have it, and we do not know."""

    def hang_up(*args: object) -> None:
        _lose_the_database()
        Reservation.objects.count()

    with monkeypatch.context() as broken:
        broken.setattr(Reservation.objects, "select_related", hang_up)
        with pytest.raises(OperationalError):
            claim(reservation.pk, NOW)
    _new_connection()
    assert Reservation.objects.get().claim_token

    assert claim(reservation.pk, NOW)
