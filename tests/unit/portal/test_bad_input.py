"""What nobody types but somebody sends: each is answered with a sentence, never with a 500."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from tests.unit.portal.conftest import Call

pytestmark = pytest.mark.django_db
BODY = {"service": "nginx", "hours": 2}
FORM = {"service": "nginx", "size": "small", "duration": "60", "storage": "C1"}
Browser = Callable[..., Client]


@pytest.mark.parametrize("field", ["service", "size", "storage", "volume", "name"])
def test_the_api_names_the_field_that_has_a_nul(field: str, api: Call) -> None:
    answer = api("POST", "/reservations", BODY | {field: "a\0"})

    assert answer.status_code == 422
    assert list(answer.json()["errors"]) == [field]


def test_the_form_of_a_service_with_a_nul_is_the_empty_form(owner: User, browser: Browser) -> None:
    assert browser(owner).get("/reservations/new/?service=%00").status_code == 200


FIELDS = "service size duration storage storage_gb volume name start end copies cores ram_mib"


@pytest.mark.parametrize("page", ["/reservations/new/", "/reservations/quote/", "/reservations/week/"])
@pytest.mark.parametrize("field", FIELDS.split())
def test_a_form_field_with_a_nul_gets_its_sentence(field: str, page: str, owner: User, browser: Browser) -> None:
    answer = browser(owner).post(page, FORM | {field: "1\0"})

    assert answer.status_code in {200, 422}
    assert field in answer.context["form"].errors


@pytest.mark.parametrize("month", ["9999-12", "9999-01", "0001-01", "0000-00", "2026-13", "10000-01", "%00", "-1-1"])
def test_a_month_that_the_calendar_does_not_have_is_this_month(month: str, owner: User, browser: Browser) -> None:
    answer = browser(owner).get(f"/billing/?month={month}")

    assert answer.status_code == 200


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
@pytest.mark.parametrize("month", ["0001-01", "9998-12"])
def test_the_first_and_the_last_month_are_shown_in_every_zone(
    month: str, zone: str, owner: User, browser: Browser, settings: Any
) -> None:
    settings.TIME_ZONE = zone

    assert browser(owner).get(f"/billing/?month={month}").status_code == 200
