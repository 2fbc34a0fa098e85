"""The waiting list's pages and API."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Membership, User
from compute.models import Node
from reservations import offering, waiting
from reservations.models import Reservation, WaitingEntry
from tests.factories import make_booking, make_reservation, make_size, make_token, make_user, workspace_of
from tests.unit.portal.conftest import Call

pytestmark = pytest.mark.django_db
FORM = {"service": "nginx", "size": "small", "duration": "60", "storage": "C1", "name": "my wish", "start": ""}
BODY = {"service": "nginx", "size": "small", "hours": 1, "name": "my wish"}
PAGE = "/reservations/waiting/"


@pytest.fixture
def full(node: Node) -> Reservation:
    """The one node is full."""
    size = make_size("all", ram_mib=node.ram_mib, cores=node.cores)
    user = make_user("holder")
    workspace_of(user).__class__.objects.filter(personal_of=user).update(max_ram_mib=10**6, max_cores=1000)
    return make_reservation(user, now=timezone.now(), size=size)


def join(user: User, **values: Any) -> WaitingEntry:
    values.setdefault("name", "my wish")
    booking = make_booking(**values)
    return waiting.join(booking=booking, workspace=workspace_of(user), by=user, now=timezone.now())


def offer(entry: WaitingEntry) -> Reservation:
    """It has one, as there is room."""
    offering.look_after(timezone.now())
    found = WaitingEntry.objects.select_related("offer").get(pk=entry.pk).offer
    assert found is not None
    return found


def lapse(reservation: Reservation) -> None:
    Reservation.objects.filter(pk=reservation.pk).update(deadline=timezone.now() - timedelta(seconds=1))


# ---- pages ------------------------------------------------------------------------------------------------


def test_what_does_not_fit_can_be_waited_for_on_the_same_form(full: Reservation, browser: Any, owner: User) -> None:
    page = browser(owner)
    refused = page.post("/reservations/new/", FORM)
    assert refused.status_code == 422
    assert 'formaction="/reservations/waiting/join/"' in refused.content.decode()

    joined = page.post("/reservations/waiting/join/", FORM, follow=True)

    text = joined.content.decode()
    assert joined.redirect_chain == [(PAGE, 302)]
    assert "my wish is in the waiting list." in text
    assert "<strong>1st</strong> of 1 in line" in text
    assert WaitingEntry.objects.get().length == timedelta(hours=1)


def test_what_fits_has_no_button_to_wait(node: Node, browser: Any, owner: User) -> None:
    assert "waiting/join" not in browser(owner).post("/reservations/quote/", FORM).content.decode()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("start", "yesterday", "Type the start as date and time"),
        ("start", "2020-01-01T10:00", "The start is in the past."),
        ("duration", "7", "This duration is not offered."),
        ("name", "🙂" * 500, "at most 60 characters"),
        ("name", "a\0b", "ull characters are not allowed"),
        ("service", "nothing", "There is no such service."),
        ("size", "9" * 400, "There is no such size."),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_nothing_is_lost(
    field: str, value: str, sentence: str, full: Reservation, browser: Any, owner: User
) -> None:
    answer = browser(owner).post("/reservations/waiting/join/", FORM | {field: value})

    assert answer.status_code == 422
    assert sentence in str(answer.context["form"].errors[field])
    assert answer.context["form"].data["duration"] == (value if field == "duration" else "60")
    assert not WaitingEntry.objects.exists()


def test_the_eleventh_is_refused_with_a_sentence(full: Reservation, browser: Any, owner: User) -> None:
    for n in range(10):
        join(owner, name=f"wish {n}")

    answer = browser(owner).post("/reservations/waiting/join/", FORM)

    assert answer.status_code == 422
    assert "has 10 entries in the waiting list already" in answer.content.decode()


def test_an_empty_list_says_what_to_do(browser: Any, owner: User) -> None:
    assert "Nothing is waiting" in browser(owner).get(PAGE).content.decode()


def test_an_offer_is_taken_on_the_page(node: Node, browser: Any, owner: User) -> None:
    entry = join(owner)
    made = offer(entry)
    page = browser(owner)
    assert f'action="{PAGE}{entry.pk}/take/"' in page.get(PAGE).content.decode()
    of_reservation = page.get(f"/reservations/{made.pk}/").content.decode()
    assert 'form="take-form"' in of_reservation
    assert f'action="{PAGE}{entry.pk}/take/"' in of_reservation
    assert "when you take it" in of_reservation

    answer = page.post(f"{PAGE}{entry.pk}/take/")

    assert (answer.status_code, answer["Location"]) == (302, f"/reservations/{made.pk}/")
    assert Reservation.objects.get().state == "booked"
    assert "take-form" not in page.get(f"/reservations/{made.pk}/").content.decode()


def test_an_offer_that_is_taken_too_late_is_a_sentence(node: Node, browser: Any, owner: User) -> None:
    entry = join(owner)
    lapse(offer(entry))

    answer = browser(owner).post(f"{PAGE}{entry.pk}/take/", follow=True)

    assert answer.status_code == 200
    assert "The offer has lapsed and went to the next in line. You are still in line" in answer.content.decode()
    assert Reservation.objects.get().state == "offered"  # a worker ends it


@pytest.mark.parametrize(("then", "outcome"), [("stay", ""), ("leave", "cancelled"), ("", "cancelled")])
def test_an_offer_is_declined_on_the_page(then: str, outcome: str, node: Node, browser: Any, owner: User) -> None:
    entry = join(owner)
    made = offer(entry)

    answer = browser(owner).post(f"{PAGE}{entry.pk}/decline/", {"then": then}, follow=True)

    assert answer.status_code == 200
    assert WaitingEntry.objects.get().outcome == outcome
    assert Reservation.objects.get(pk=made.pk).state == "ending"


def test_it_is_cancelled_on_the_page_and_a_second_time_is_no_error(
    full: Reservation, browser: Any, owner: User
) -> None:
    entry = join(owner)
    page = browser(owner)

    texts = [page.post(f"{PAGE}{entry.pk}/cancel/", follow=True).content.decode() for _ in range(2)]

    assert "is not in the waiting list any more" in texts[0]
    assert "was not in the waiting list any more" in texts[1]
    assert "Cancelled by" in texts[1]


def test_a_member_sees_what_others_wait_for_and_a_manager_acts_on_it(
    full: Reservation, browser: Any, owner: User, other: User
) -> None:
    entry = join(owner)
    member = Membership.objects.create(workspace=entry.workspace, user=other, role="member")

    assert "my wish" in browser(other).get(PAGE).content.decode()
    assert f"{PAGE}{entry.pk}/cancel/" not in browser(other).get(PAGE).content.decode()
    assert browser(other).post(f"{PAGE}{entry.pk}/cancel/").status_code == 403
    member.role = "manager"
    member.save()
    assert browser(other).post(f"{PAGE}{entry.pk}/cancel/").status_code == 302


@pytest.mark.parametrize("deed", ["take", "decline", "cancel"])
@pytest.mark.parametrize("number", ["0", "999999", "99999999999999999999"])
def test_what_is_not_there_is_not_found(deed: str, number: str, browser: Any, owner: User) -> None:
    assert browser(owner).post(f"{PAGE}{number}/{deed}/").status_code == 404


def test_the_page_takes_the_same_number_of_queries_however_many_wait(
    full: Reservation, browser: Any, owner: User
) -> None:
    page = browser(owner)
    counts = []
    for many in (1, 9):
        for n in range(many):
            join(owner, name=f"wish {many} {n}")
            join(make_user())
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert page.get(PAGE).status_code == 200
        counts.append(len(captured))

    assert counts[0] == counts[1]


# ---- API --------------------------------------------------------------------------------------------------


def test_the_api_joins_shows_the_place_and_cancels(full: Reservation, api: Call) -> None:
    joined = api("POST", "/waiting", BODY)
    assert joined.status_code == 201
    body = joined.json()
    assert (body["place"], body["offer"], body["outcome"], body["hours"]) == (1, None, "", "1")

    assert [row["id"] for row in api("GET", "/waiting").json()] == [body["id"]]
    assert api("GET", f"/waiting/{body['id']}").json()["name"] == "my wish"
    cancelled = api("DELETE", f"/waiting/{body['id']}").json()
    assert (cancelled["outcome"], cancelled["place"]) == ("cancelled", None)
    assert api("GET", "/waiting").json() == []


def test_the_api_takes_an_offer_and_tells_its_credentials(node: Node, api: Call) -> None:
    number = api("POST", "/waiting", BODY).json()["id"]
    offering.look_after(timezone.now())
    told = api("GET", f"/waiting/{number}").json()
    assert told["offer_until"]

    taken = api("POST", f"/waiting/{number}/take").json()

    assert (taken["id"], taken["state"]) == (told["offer"], "booked")
    assert taken["credentials"]["password"]


@pytest.mark.parametrize("deed", ["take", "decline"])
def test_the_api_says_that_an_offer_is_over(deed: str, node: Node, api: Call, owner: User) -> None:
    entry = join(owner)
    lapse(offer(entry))

    answer = api("POST", f"/waiting/{entry.pk}/{deed}", {} if deed == "decline" else None)

    assert (answer.status_code, answer.json()["code"]) == (409, "offer_over")
    assert "You are still in line" in answer.json()["detail"]


def test_the_api_declines_and_stays(node: Node, api: Call, owner: User) -> None:
    entry = join(owner)
    offer(entry)

    answer = api("POST", f"/waiting/{entry.pk}/decline", {"stay": True}).json()

    assert (answer["place"], answer["offer"], answer["outcome"]) == (1, None, "")


@pytest.mark.parametrize(
    "body",
    [{}, {"service": "nothing", "hours": 1}, BODY | {"hours": -1}, BODY | {"name": "🙂" * 500}, BODY | {"wish": 1}],
)
def test_the_api_refuses_what_makes_no_sense(body: Any, full: Reservation, api: Call) -> None:
    answer = api("POST", "/waiting", body)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert not WaitingEntry.objects.exists()


def test_the_api_says_when_the_list_is_full(full: Reservation, api: Call, owner: User) -> None:
    for n in range(10):
        join(owner, name=f"wish {n}")

    answer = api("POST", "/waiting", BODY)

    assert (answer.status_code, answer.json()["code"]) == (409, "waiting_list_full")


def test_anothers_entry_does_not_exist_for_the_api(full: Reservation, api: Call, owner: User, other: User) -> None:
    entry = join(owner)
    token = make_token(other)

    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/take"), ("POST", "/decline")):
        body: dict[str, Any] | None = {} if path == "/decline" else None
        assert api(method, f"/waiting/{entry.pk}{path}", body, token=token).status_code == 404
    assert api("GET", "/waiting", token=token).json() == []
