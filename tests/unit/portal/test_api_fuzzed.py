"""schemathesis asks the API what its OpenAPI document allows, and then what it does not.

Deterministic: the same questions each time. One transaction a test, so the bookings of one question are there at the
next, until the quota is used up.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from accounts.models import User
from portal.api import api as ninja
from tests.factories import make_token
from tests.unit.portal.doors import Ground, make_ground

pytestmark = pytest.mark.django_db
EXAMPLES = 30
TOLD = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OPERATIONS = sorted(
    f"{method.upper()} {path}"
    for path, methods in ninja.get_openapi_schema(path_prefix="/api/v1/")["paths"].items()
    for method in methods
)
bounded = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def document(django_db_setup: None, django_db_blocker: Any) -> Any:
    """What the API says of itself, read as anybody reads it."""
    portal = get_wsgi_application()

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        return portal({**environ, "REMOTE_ADDR": "203.0.113.7"}, start_response)  # as a server says

    with django_db_blocker.unblock():  # Django looks at its connection before and after every request
        return schemathesis.openapi.from_wsgi("/api/v1/openapi.json", app)


@pytest.fixture
def ground(owner: User, other: User, staff: User) -> Ground:
    return make_ground(owner, other, staff)


@pytest.fixture(autouse=True)
def _connections_stay_open() -> Iterator[None]:
    """At the end of a request Django closes what it deems unusable: the test's own transaction."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def ask(case: Case[Any], token: str) -> None:
    case.call_and_validate(headers={"Authorization": f"Bearer {token}"}, checks=TOLD)


@pytest.mark.parametrize("name", OPERATIONS)
def test_whatever_the_document_allows_is_answered_as_it_says(name: str, document: Any, ground: Ground) -> None:
    method, _, path = name.partition(" ")
    token, operation = make_token(ground.owner), document[path][method]
    known = ground.volume.pk if "volumes" in path else ground.reservation.pk

    @bounded
    @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE), real=st.booleans())
    def each(case: Case[Any], real: bool) -> None:
        if real and case.path_parameters:
            case.path_parameters["pk"] = known
        if real and isinstance(case.body, dict) and "service" in case.body:
            case.body["service"] = "nginx"
        ask(case, token)

    each()


@pytest.mark.parametrize("name", OPERATIONS)
def test_whatever_it_does_not_allow_is_answered_as_it_says(name: str, document: Any, ground: Ground) -> None:
    method, _, path = name.partition(" ")
    token, operation = make_token(ground.owner), document[path][method]
    try:
        strategy = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)
    except ValueError:
        return

    @bounded
    @given(case=strategy)
    def each(case: Case[Any]) -> None:
        ask(case, token)

    each()


@pytest.mark.parametrize("name", OPERATIONS)
def test_without_a_token_everything_is_refused_as_it_says(name: str, document: Any, ground: Ground) -> None:
    method, _, path = name.partition(" ")
    operation = document[path][method]

    @settings(bounded, max_examples=5)
    @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    def each(case: Case[Any]) -> None:
        if case.path_parameters:
            case.path_parameters["pk"] = ground.reservation.pk
        answer = case.call(headers={"Authorization": "Bearer berth_wrong"})

        assert answer.status_code == 401
        case.validate_response(answer, checks=TOLD)

    each()
