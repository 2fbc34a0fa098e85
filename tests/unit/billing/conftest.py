"""A customer who has been billed, and a browser in front of the portal."""

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from tests.unit.portal.doors import log_in


@pytest.fixture
def browser(settings: Any) -> Callable[[User], Client]:
    """A browser, logged in as this person."""
    settings.SECURE_SSL_REDIRECT = False

    def open_browser(person: User) -> Client:
        client = Client()
        log_in(client, person)
        return client

    return open_browser
