"""The JSON API: shapes, and each error as problem+json."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from django.utils import timezone

from accounts.models import ApiToken, User, Workspace
from compute.models import Node
from reservations.models import IdempotencyKey, Reservation
from tests.factories import make_reservation, make_service, make_size, make_token, make_user
from tests.unit.portal.conftest import Call

pytestmark = pytest.mark.django_db
BODY = {"service": "nginx", "size": "small", "start": None, "hours": 2, "storage": "C1"}


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    """The body of an answer that must be this problem."""
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["status"], body["code"]) == (status, code)
    assert body["detail"]
    return body


# ---- booking ----------------------------------------------------------------------------------------------


def test_a_booking_answers_with_what_was_booked(api: Call, node: Node) -> None:
    answer = api("POST", "/reservations", BODY)

    body = answer.json()
    assert answer.status_code == 201
    assert {"id", "state", "reason", "service", "start", "end", "node", "endpoints", "credentials", "price"} <= set(
        body
    )
    assert (body["state"], body["service"], body["node"], body["price"]) == ("booked", "nginx", "one", "0.50")
    length = datetime.fromisoformat(body["end"]) - datetime.fromisoformat(body["start"])
    assert length == timedelta(hours=2)
    (endpoint,) = body["endpoints"]
    assert {"name": "web", "host": "198.18.0.1", "container_port": 80, "protocol": "tcp"}.items() <= endpoint.items()
    assert 20_000 <= endpoint["port"] <= 29_999
    assert len(body["credentials"]["password"]) == 24


@pytest.mark.parametrize(("hours", "minutes"), [(0.25, 15), ("1.5", 90), (1, 60), (0.75, 45)])
def test_hours_may_be_a_fraction(hours: Any, minutes: int, api: Call) -> None:
    answer = api("POST", "/reservations", BODY | {"hours": hours})

    assert answer.status_code == 201
    row = Reservation.objects.get()
    assert row.length == timedelta(minutes=minutes)


def test_without_a_size_the_services_usual_one_is_taken(api: Call) -> None:
    assert api("POST", "/reservations", BODY).json()["ram_mib"] == 512


BAD: list[tuple[str, Any, str]] = [
    ("service", "nothing", "service"),
    ("service", "", "service"),
    ("service", None, "service"),
    ("service", "x" * 51, "service"),
    ("service", "ngi\0nx", "service"),
    ("service", "ngi\ud800nx", "service"),
    ("size", "nothing", "size"),
    ("size", "a\0", "size"),
    ("hours", 0, "hours"),
    ("hours", -1, "hours"),
    ("hours", 0.1, "hours"),
    ("hours", 1e-9, "hours"),
    ("hours", 745, "hours"),
    ("hours", 1e30, "hours"),
    ("hours", "1e30", "hours"),
    ("hours", float("nan"), "hours"),
    ("hours", float("inf"), "hours"),
    ("hours", "NaN", "hours"),
    ("hours", "much", "hours"),
    ("hours", None, "hours"),
    ("hours", [1], "hours"),
    ("start", "2020-01-01T00:00:00Z", "start"),
    ("start", "2126-01-01T00:00:00Z", "start"),
    ("start", "2126-01-01T00:00:00", "start"),
    ("start", "9999-12-31T23:59:59-14:00", "start"),
    ("start", "0001-01-01T00:00:00+14:00", "start"),
    ("start", "tomorrow", "start"),
    ("start", 1e18, "start"),
    ("storage", "C9", "storage"),
    ("storage", "C\0", "storage"),
    ("storage_gb", 0, "storage_gb"),
    ("storage_gb", 21, "storage_gb"),
    ("storage_gb", 10**40, "storage_gb"),
    ("volume", "nothing", "volume"),
    ("volume", "a\0", "volume"),
    ("name", "x" * 61, "name"),
    ("name", "a\x07", "name"),
    ("name", "a\0", "name"),
    ("colour", "red", "colour"),
]


@pytest.mark.parametrize(("field", "value", "at"), BAD, ids=[f"{f}={str(v)[:20]!r}" for f, v, _ in BAD])
def test_a_bad_value_is_named_at_its_field_and_books_nothing(field: str, value: Any, at: str, api: Call) -> None:
    body = problem(api("POST", "/reservations", BODY | {field: value}), 422, "invalid")

    assert list(body["errors"]) == [at]
    assert body["errors"][at]
    assert not Reservation.objects.exists()


def test_every_bad_field_is_told_at_once(api: Call) -> None:
    body = problem(api("POST", "/reservations", {"colour": 1, "hours": "x"}), 422, "invalid")

    assert set(body["errors"]) == {"colour", "hours", "service"}


@pytest.mark.parametrize("sent", ["{", "nginx", '{"service": "nginx",}', b"\xff\xfe"])
def test_broken_json_is_a_bad_request(sent: str | bytes, api: Call) -> None:
    problem(api("POST", "/reservations", sent), 400, "bad_request")


@pytest.mark.parametrize("sent", ["", "[]", "null", "7"])
def test_json_that_is_no_object_is_invalid(sent: str, api: Call) -> None:
    problem(api("POST", "/reservations", sent), 422, "invalid")


def test_a_body_of_ten_megabytes_is_too_large(api: Call) -> None:
    problem(api("POST", "/reservations", '{"name": "' + "x" * 10_000_000 + '"}'), 413, "too_large")


def test_when_nothing_fits_it_says_when_it_would(api: Call, node: Node) -> None:
    Node.objects.update(ram_mib=512)
    first = api("POST", "/reservations", BODY).json()

    body = problem(api("POST", "/reservations", BODY), 409, "no_capacity")

    wait = datetime.fromisoformat(body["next_slot"]) - datetime.fromisoformat(first["end"])
    assert timedelta(0) <= wait < timedelta(minutes=1)
    later = api("POST", "/reservations", BODY | {"start": body["next_slot"]})
    assert later.status_code == 201


def test_when_no_node_is_in_service_no_slot_is_promised(api: Call, node: Node) -> None:
    Node.objects.update(health="unknown")

    assert problem(api("POST", "/reservations", BODY), 409, "no_capacity")["next_slot"] is None


def test_over_quota_is_a_conflict_of_its_own(api: Call) -> None:
    Workspace.objects.update(max_reservations=0)

    assert "quota" in problem(api("POST", "/reservations", BODY), 409, "quota")["detail"]


# ---- the same key -----------------------------------------------------------------------------------------


def test_the_same_key_gives_the_same_answer_and_one_reservation(api: Call) -> None:
    key = {"Idempotency-Key": "abc"}
    first = api("POST", "/reservations", BODY, **key)
    Reservation.objects.update(state="running", reason="changed meanwhile")

    again = api("POST", "/reservations", BODY, **key)

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert Reservation.objects.count() == 1


def test_the_same_key_with_another_body_is_refused(api: Call) -> None:
    key = {"Idempotency-Key": "abc"}
    api("POST", "/reservations", BODY, **key)

    problem(api("POST", "/reservations", BODY | {"hours": 1}, **key), 422, "idempotency_mismatch")

    assert Reservation.objects.count() == 1


def test_the_kept_answer_holds_no_credentials(api: Call) -> None:
    first = api("POST", "/reservations", BODY, **{"Idempotency-Key": "abc"}).json()

    assert first["credentials"]["password"] not in str(IdempotencyKey.objects.get().answer)


# ---- reading and deleting ---------------------------------------------------------------------------------


def test_a_list_has_ones_own_newest_first(api: Call, owner: User, other: User, node: Node) -> None:
    now = timezone.now()
    mine = [make_reservation(owner, now=now + timedelta(seconds=n)).pk for n in range(3)]
    make_reservation(other, now=now)

    assert [row["id"] for row in api("GET", "/reservations").json()] == mine[::-1]
    assert [row["id"] for row in api("GET", "/reservations?limit=1&offset=1").json()] == [mine[1]]
    assert api("GET", "/reservations?live=false").json() == []


def test_the_list_is_narrowed_to_what_has_some_of_its_time_in_between(api: Call, owner: User, node: Node) -> None:
    row = make_reservation(owner, now=timezone.now())

    def found(**query: datetime) -> list[int]:
        asked = {name.strip("_"): at.isoformat() for name, at in query.items()}
        return [each["id"] for each in api("GET", f"/reservations?{urlencode(asked)}").json()]

    assert found(from_=row.end) == found(until=row.start) == []
    assert found(from_=row.end - timedelta(seconds=1)) == found(until=row.start + timedelta(seconds=1)) == [row.pk]
    assert found(from_=row.start, until=row.end) == [row.pk]
    turned = api("GET", f"/reservations?{urlencode({'from': row.end.isoformat(), 'until': row.start.isoformat()})}")
    assert (turned.status_code, turned.json()["errors"]) == (422, {"until": "Until must be after from."})
    assert api("GET", "/reservations?from=2026-05-04T10:00").status_code == 422  # of which zone?
    assert api("GET", "/reservations?until=0001-01-01T10:00Z").json()["errors"].keys() == {"until"}
    assert api("GET", "/reservations?from=2026-05-04T10:00-23:30").status_code == 200


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "offset=-1", "live=perhaps", "limit=1e9"])
def test_a_bad_question_is_invalid(query: str, api: Call) -> None:
    problem(api("GET", f"/reservations?{query}"), 422, "invalid")


def test_deleting_takes_it_down_and_again_changes_nothing(api: Call, reservation: Reservation) -> None:
    first = api("DELETE", f"/reservations/{reservation.pk}")
    again = api("DELETE", f"/reservations/{reservation.pk}")

    assert (first.status_code, first.json()["state"]) == (202, "ending")
    assert (again.status_code, again.json()["state"]) == (202, "ending")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_somebody_elses_reservation_does_not_exist(
    method: str, api: Call, other: User, reservation: Reservation
) -> None:
    problem(api(method, f"/reservations/{reservation.pk}", token=make_token(other)), 404, "not_found")

    assert Reservation.objects.get().state == "booked"


@pytest.mark.parametrize("number", ["0", "999999999", "9" * 40])
def test_what_does_not_exist_is_not_found(number: str, api: Call) -> None:
    problem(api("GET", f"/reservations/{number}"), 404, "not_found")


def test_a_list_asks_the_database_as_often_for_fifty_as_for_one(api: Call, owner: User) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    Workspace.objects.update(max_reservations=99, max_cores=99, max_ram_mib=99_999)
    counts = []
    for more in (1, 49):
        for _ in range(more):
            make_reservation(owner, now=timezone.now())
        api("GET", "/reservations")
        with CaptureQueriesContext(connection) as asked:
            assert api("GET", "/reservations").status_code == 200
        counts.append(len(asked))

    assert counts[0] == counts[1] <= 6


# ---- tokens -----------------------------------------------------------------------------------------------


def test_without_a_valid_token_nothing_is_told(api: Call, owner: User) -> None:
    now = timezone.now()
    bad = [
        None,
        "",
        "berth_wrong",
        "\u00e9",
        make_token(owner, expires_at=now - timedelta(seconds=1)),
        make_token(owner, revoked_at=now),
        make_token(make_user(is_active=False)),
    ]
    for token in bad:
        for method, path in (("GET", "/reservations"), ("POST", "/reservations"), ("GET", "/services")):
            answer = api(method, path, BODY if method == "POST" else None, token=token)
            problem(answer, 401, "unauthorized")
            assert answer["WWW-Authenticate"] == "Bearer"


def test_a_token_that_has_not_expired_is_good_and_its_use_is_noted(api: Call, owner: User) -> None:
    token = make_token(owner, expires_at=timezone.now() + timedelta(minutes=1))

    assert api("GET", "/reservations", token=token).status_code == 200
    assert ApiToken.objects.get(digest=ApiToken.digest_of(token)).last_used_at


def test_a_browsers_session_is_no_token(browser: Any, owner: User) -> None:
    assert browser(owner).get("/api/v1/reservations").status_code == 401


# ---- who may connect ---------------------------------------------------------------------------------------


def test_who_may_connect_to_a_port_is_said_and_told(api: Call, node: Node) -> None:
    number = api("POST", "/reservations", BODY).json()["id"]
    path = f"/reservations/{number}/endpoints/web/allowed-sources"

    said = api("PUT", path, {"allowed_sources": ["203.0.113.7", "10.1.2.3/8"]})

    assert (said.status_code, said.json()["allowed_sources"]) == (200, ["203.0.113.7/32", "10.0.0.0/8"])
    told = api("GET", f"/reservations/{number}").json()["endpoints"]
    assert told[0]["allowed_sources"] == ["203.0.113.7/32", "10.0.0.0/8"]
    assert api("PUT", path, {"allowed_sources": []}).json()["allowed_sources"] == []


def test_a_list_with_a_bad_entry_is_refused_and_the_entry_named(api: Call, node: Node) -> None:
    number = api("POST", "/reservations", BODY).json()["id"]
    path = f"/reservations/{number}/endpoints/web/allowed-sources"

    refused = api("PUT", path, {"allowed_sources": ["203.0.113.7", "2001:db8::1"]})

    assert (refused.status_code, refused.json()["code"]) == (422, "invalid")
    assert "“2001:db8::1” is of IPv6" in refused.json()["errors"]["allowed_sources"]
    for body in ({}, {"allowed_sources": "203.0.113.7"}, {"allowed_sources": [7]}, {"allowed_sources": ["x\0"]}):
        assert api("PUT", path, body).status_code == 422
    nowhere = f"/reservations/{number}/endpoints/nothing/allowed-sources"
    assert api("PUT", nowhere, {"allowed_sources": []}).status_code == 404


# ---- catalogue and document -------------------------------------------------------------------------------


def test_the_catalogue_tells_what_can_be_booked_and_why_not(api: Call) -> None:
    make_service("redis", digest="")
    make_service("gone", active=False)
    make_size("big", ram_mib=1024, cores=2)

    services = {row["slug"]: row for row in api("GET", "/services").json()}
    sizes = {row["slug"]: row for row in api("GET", "/sizes").json()}

    assert set(services) == {"nginx", "redis"}
    assert services["nginx"]["available"] is True
    assert "registry" in services["redis"]["unavailable_reason"]
    assert Decimal(sizes["big"]["price_per_hour"]) == 1
    assert [row["code"] for row in api("GET", "/storage-profiles").json()] == ["C1", "C2", "C3"]


def test_the_document_lists_every_route_and_anybody_may_read_it(api: Call) -> None:
    document = api("GET", "/openapi.json", token=None).json()

    assert set(document["paths"]) == {
        "/api/v1/availability",
        "/api/v1/billing/invoices",
        "/api/v1/billing/invoices/{pk}",
        "/api/v1/billing/invoices/{pk}/pdf",
        "/api/v1/billing/ledger",
        "/api/v1/billing/summary",
        "/api/v1/billing/usage",
        "/api/v1/billing/workspaces",
        "/api/v1/notifications",
        "/api/v1/notifications/{pk}/read",
        "/api/v1/quotes",
        "/api/v1/reservations",
        "/api/v1/reservations/batch",
        "/api/v1/reservations/{pk}",
        "/api/v1/reservations/{pk}/endpoints/{name}/allowed-sources",
        "/api/v1/reservations/{pk}/logs",
        "/api/v1/reservations/{pk}/extend",
        "/api/v1/reservations/{pk}/extensions",
        "/api/v1/reservations/{pk}/restart",
        "/api/v1/reservations/{pk}/shorten",
        "/api/v1/services",
        "/api/v1/sizes",
        "/api/v1/storage-profiles",
        "/api/v1/volumes",
        "/api/v1/volumes/{pk}",
        "/api/v1/waiting",
        "/api/v1/waiting/{pk}",
        "/api/v1/waiting/{pk}/decline",
        "/api/v1/waiting/{pk}/take",
        "/api/v1/workspaces",
        "/api/v1/workspaces/{pk}/members",
    }
    assert set(document["paths"]["/api/v1/reservations"]) == {"get", "post"}


def test_the_documents_page_is_served_without_help_from_outside(browser: Any) -> None:
    page = browser(None).get("/api/docs")

    assert page.status_code == 200
    assert "openapi.json" in page.content.decode()
    assert "cdn" not in page.content.decode()


def test_times_are_told_in_utc(api: Call) -> None:
    start = datetime.fromisoformat(api("POST", "/reservations", BODY).json()["start"])

    assert start.tzinfo == UTC
