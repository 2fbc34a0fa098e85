"""What a caller sees of a fault of ours, and who may knock at the admin's door."""

import pytest
from django.db import models
from django.test import Client

from reservations.models import Reservation
from tests.factories import make_token, make_user

pytestmark = pytest.mark.django_db


def test_a_fault_is_a_problem_without_details_for_the_caller(
    client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: object, **more: object) -> models.QuerySet[Reservation]:
        raise RuntimeError("the secret of the machine room")

    monkeypatch.setattr(type(Reservation.objects), "visible_to", broken, raising=False)

    answer = client.get("/api/v1/reservations", headers={"Authorization": f"Bearer {make_token(make_user())}"})

    assert answer.status_code == 500
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "internal"
    assert "machine room" not in answer.content.decode()
    assert "machine room" in caplog.text


def test_the_admin_has_no_log_in_of_its_own(client: Client) -> None:
    answer = client.get("/admin/", follow=True)

    assert answer.redirect_chain[-1][0].startswith("/accounts/login/")


def test_a_customer_is_not_let_into_the_admin(client: Client) -> None:
    client.force_login(make_user())

    assert client.get("/admin/", follow=True).status_code == 403
