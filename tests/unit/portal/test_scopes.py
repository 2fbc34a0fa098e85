"""What a token may: read, write or both; and what becomes of those who guess."""

from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client
from django.utils import timezone

from accounts import limits
from accounts.models import ApiToken, User
from portal.routes import Route
from tests.factories import make_token
from tests.unit.portal.conftest import Call
from tests.unit.portal.doors import BODIES, Ground, address, make_ground
from tests.unit.portal.test_routes import OF_API, named

pytestmark = pytest.mark.django_db
ASKING = [(route, method) for route in OF_API for method in route.methods if route.path != "api/v1/openapi.json"]


@pytest.fixture(autouse=True)
def _forget() -> None:
    cache.clear()


@pytest.fixture
def ground(owner: User, other: User, staff: User) -> Ground:
    return make_ground(owner, other, staff)


@pytest.mark.parametrize(("route", "method"), ASKING, ids=[f"{method} {named(route)}" for route, method in ASKING])
def test_every_route_wants_its_scope(route: Route, method: str, ground: Ground, api: Call) -> None:
    asks = method == "GET" or route.path == "api/v1/quotes"  # which changes nothing
    needed, other = ("read", "write") if asks else ("write", "read")
    path = address(route, ground).removeprefix("/api/v1")

    refused = api(method, path, BODIES.get(route.path), token=make_token(ground.owner, scopes=[other]))

    assert refused.status_code == 403
    assert refused["Content-Type"] == "application/problem+json"
    body = refused.json()
    assert (body["code"], body["scope"]) == ("scope", needed)
    assert body["detail"] == f"This needs a token with the scope {needed}; yours may only {other}."
    assert f'scope="{needed}"' in refused["WWW-Authenticate"]
    ground.reservation.refresh_from_db()
    assert ground.reservation.state == "booked"
    allowed = api(method, path, BODIES.get(route.path), token=make_token(ground.owner, scopes=[needed]))
    assert allowed.status_code != 403


def test_there_are_routes_of_both_kinds() -> None:
    assert {method for _, method in ASKING} >= {"GET", "POST", "DELETE"}


def test_a_refused_token_is_not_noted_as_used(owner: User, api: Call) -> None:
    token = make_token(owner, scopes=["write"])

    api("GET", "/reservations", token=token)

    assert ApiToken.objects.get(digest=ApiToken.digest_of(token)).last_used_at is None


def test_what_may_only_write_is_told_no_credentials(ground: Ground, api: Call) -> None:
    """Whatever it changes answers with the reservation, and extending one must not be a way to read it."""
    writes, booking = make_token(ground.owner, scopes=["write"]), {"service": "nginx", "hours": 1}
    pk = ground.reservation.pk
    asked = [
        ("POST", "/reservations", booking),
        ("POST", f"/reservations/{pk}/extend", {"hours": 1}),
        ("DELETE", f"/reservations/{pk}", None),
    ]
    told = [api(method, path, body, token=make_token(ground.owner)).json() for method, path, body in asked[:2]]
    assert all(answer["credentials"] and answer["connect"] for answer in told)

    for method, path, body in asked:
        answer = api(method, path, body, token=writes)
        assert answer.status_code < 300
        assert (answer.json()["credentials"], answer.json()["connect"]) == ({}, [])


def test_the_first_answer_again_tells_no_more_than_the_token_may_read(ground: Ground, api: Call) -> None:
    both, writes = make_token(ground.owner), make_token(ground.owner, scopes=["write"])
    booking, key = {"service": "nginx", "hours": 1}, {"Idempotency-Key": "one"}

    first = api("POST", "/reservations", booking, token=both, **key).json()
    again = api("POST", "/reservations", booking, token=writes, **key).json()

    assert first["credentials"]
    assert again == first | {"credentials": {}, "connect": []}
    assert api("POST", "/reservations", booking, token=both, **key).json() == first


def test_the_document_tells_of_both_refusals(api: Call) -> None:
    document = api("GET", "/openapi.json", token=None).json()

    assert {"401", "403", "429"} <= set(document["paths"]["/api/v1/reservations"]["post"]["responses"])


# ---- guessing ---------------------------------------------------------------------------------------------


def ask(token: str, *, seen_from: str = "192.0.2.1", says: str = "") -> Any:
    headers = {"Authorization": f"Bearer {token}"} | ({"X-Forwarded-For": says} if says else {})
    return Client(REMOTE_ADDR=seen_from).get("/api/v1/reservations", headers=headers)


def guess(times: int, **where: str) -> None:
    for n in range(times):
        assert ask(f"berth_guess{n}", **where).status_code == 401


def test_who_guesses_is_heard_no_more_for_a_while(owner: User) -> None:
    good = make_token(owner)
    guess(limits.MOST_WRONG_TOKENS)

    answer = ask(good)

    assert answer.status_code == 429
    assert answer.json()["code"] == "too_many_wrong_tokens"
    assert answer["Retry-After"] == "60"
    assert ask(good, seen_from="192.0.2.2").status_code == 200


def test_a_claim_about_its_address_helps_nobody(owner: User) -> None:
    for n in range(limits.MOST_WRONG_TOKENS):
        ask(f"berth_guess{n}", says=f"198.51.100.{n}")

    assert ask(make_token(owner), says="198.51.100.99").status_code == 429


def test_behind_a_proxy_each_caller_counts_alone(owner: User, settings: Any) -> None:
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1
    good = make_token(owner)
    guess(limits.MOST_WRONG_TOKENS, seen_from="10.0.0.1", says="203.0.113.1, 192.0.2.1")

    assert ask(good, seen_from="10.0.0.1", says="203.0.113.9, 192.0.2.1").status_code == 429
    assert ask(good, seen_from="10.0.0.1", says="192.0.2.1, 192.0.2.2").status_code == 200


def test_a_forgotten_script_with_one_old_token_shuts_nobody_out(owner: User) -> None:
    for _ in range(limits.MOST_WRONG_TOKENS + 5):
        ask("berth_expired")

    assert ask(make_token(owner)).status_code == 200


def test_a_token_that_was_good_here_is_heard_while_a_neighbour_guesses(owner: User) -> None:
    """An office has one address; one guesser in it must not stop everybody's programs."""
    good, unseen = make_token(owner), make_token(owner)
    assert ask(good).status_code == 200
    guess(limits.MOST_WRONG_TOKENS)

    assert ask(good).status_code == 200
    assert ask(unseen).status_code == 429
    ApiToken.objects.filter(digest=ApiToken.digest_of(good)).update(revoked_at=timezone.now())
    assert ask(good).status_code == 401


def test_ipv4_as_a_socket_for_both_kinds_tells_it_is_not_one_caller(owner: User) -> None:
    guess(limits.MOST_WRONG_TOKENS, seen_from="::ffff:192.0.2.1")

    assert ask(make_token(owner), seen_from="::ffff:192.0.2.2").status_code == 200
    assert ask(make_token(owner), seen_from="::ffff:192.0.2.1").status_code == 429
    assert ask(make_token(owner), seen_from="192.0.2.1").status_code == 429


def test_an_ipv6_network_is_one_caller(owner: User) -> None:
    for n in range(limits.MOST_WRONG_TOKENS):
        ask(f"berth_guess{n}", seen_from=f"2001:db8:1:2::{n:x}")

    assert ask(make_token(owner), seen_from="2001:db8:1:2:ffff::1").status_code == 429
    assert ask(make_token(owner), seen_from="2001:db8:1:3::1").status_code == 200
