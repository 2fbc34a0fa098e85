"""A repeated Idempotency-Key finds its first answer, whatever has changed since."""

from typing import Any

import pytest

from reservations.models import Reservation, Service, Size
from tests.unit.portal.conftest import Call

pytestmark = pytest.mark.django_db
BODY = {"service": "nginx", "size": "small", "hours": 2}


@pytest.mark.parametrize(("model", "slug"), [(Service, "nginx"), (Size, "small")])
def test_what_is_not_offered_any_more_was_booked_all_the_same(api: Call, model: Any, slug: str) -> None:
    first = api("POST", "/reservations", BODY, **{"Idempotency-Key": "k"})
    model.objects.filter(slug=slug).update(active=False)

    again = api("POST", "/reservations", BODY, **{"Idempotency-Key": "k"})

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert Reservation.objects.count() == 1


def test_another_body_is_refused_as_such_even_if_it_is_wrong(api: Call) -> None:
    api("POST", "/reservations", BODY, **{"Idempotency-Key": "k"})

    answer = api("POST", "/reservations", BODY | {"service": "nothing"}, **{"Idempotency-Key": "k"})

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")
