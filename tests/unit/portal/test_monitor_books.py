"""The monitor says when the books were checked last, and what was found."""

from typing import Any

import pytest

from accounts.models import User
from billing import nightly
from reservations.models import Reservation
from tests.factories import HOUR, NOW
from tests.unit.billing.lives import lived

pytestmark = pytest.mark.django_db


def test_it_shows_the_last_audit_and_the_first_differences(browser: Any, staff: User, owner: User) -> None:
    page = browser(staff)
    assert "not recomputed yet" in page.get("/monitor/").content.decode()

    nightly.audit_all(NOW)
    assert "last recomputed: no differences" in page.get("/monitor/").content.decode()

    row = lived(owner, NOW, 1).row
    Reservation.objects.filter(pk=row.pk).update(terms={})
    nightly.audit_all(NOW + HOUR)
    shown = page.get("/monitor/").content.decode()

    assert "The books have 1 difference." in shown
    assert f"ada: the terms of reservation {row.pk} cannot be read" in shown
