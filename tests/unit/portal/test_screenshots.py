"""script/screenshots forgets no page: each has its values, or a reason why it is not shown."""

from collections.abc import Iterator

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import clear_url_caches, path
from django.views.decorators.http import require_GET

from portal import urls
from portal.routes import routes
from tests.screenshots.addresses import MORE, NOT_SHOWN, VALUES, VIEWERS, name_of, pages, unaddressed

PATHS = {route.path for route in routes()}


def test_every_page_with_a_parameter_has_its_value_or_a_reason() -> None:
    forgotten = unaddressed(routes())

    assert not forgotten, f"say in tests/screenshots/addresses.py what belongs into these: {', '.join(forgotten)}"


def test_most_pages_are_shown() -> None:
    shown = {route.path for route in pages(routes())}

    assert {"", "reservations/<int:pk>/", "workspaces/<int:pk>/", "reservations/waiting/", "monitor/"} <= shown
    assert "billing/invoices/<path:number>/" in shown
    assert len(shown) > 80


def test_nothing_is_named_that_is_gone() -> None:
    assert sorted(set(NOT_SHOWN) - PATHS) == []
    assert sorted(set(VIEWERS) - PATHS) == []
    assert [key for key in VALUES if not any(found.startswith(key) for found in PATHS)] == []
    assert all(NOT_SHOWN.values())


def test_no_two_pages_have_pictures_of_one_name() -> None:
    names = [*MORE, *(name_of(route.path) for route in pages(routes()))]

    assert len(names) == len(set(names))
    assert {"home", "reservations", "reservations-pk", "workspaces-pk-members-user-remove"} <= set(names)


@require_GET
def _a_page(request: HttpRequest, **values: str) -> HttpResponse:
    return HttpResponse()


@pytest.fixture
def new_pages() -> Iterator[None]:
    new = [
        path("new-page/<int:pk>/", _a_page),
        path("workspaces/<int:pk>/rooms/<int:room>/", _a_page),
        path("reservations/<int:pk>/new-page/", _a_page),
        path("new-page/", _a_page),
    ]
    urls.urlpatterns.extend(new)
    clear_url_caches()
    yield
    del urls.urlpatterns[-len(new) :]
    clear_url_caches()


@pytest.mark.usefixtures("new_pages")
def test_a_new_page_with_an_unknown_parameter_stands_out() -> None:
    assert unaddressed(routes()) == ["new-page/<int:pk>/", "workspaces/<int:pk>/rooms/<int:room>/"]
