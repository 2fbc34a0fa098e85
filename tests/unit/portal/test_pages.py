"""The pages, as each kind of reader sees them."""

import html
import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User, Workspace
from compute.models import Node
from reservations.models import Reservation
from tests.factories import make_node, make_reservation, make_service

pytestmark = pytest.mark.django_db
FORM = {"service": "nginx", "size": "small", "duration": "60", "storage": "C1", "name": "", "start": ""}
PUBLIC = ["/", "/accounts/login/", "/accounts/signup/", "/accounts/password/reset/", "/api/docs", "/healthz"]
MEMBERS = ["/reservations/", "/reservations/?show=past", "/reservations/new/", "/billing/", "/accounts/email/"]
OF_ONE = ["", "state/", "delete/"]


# ---- who sees what ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PUBLIC)
def test_anybody_may_see_the_public_pages(path: str, browser: Any, owner: User) -> None:
    assert browser().get(path).status_code == 200


@pytest.mark.parametrize("path", MEMBERS)
def test_members_pages_ask_for_a_log_in(path: str, browser: Any, owner: User) -> None:
    stranger = browser().get(path)

    assert (stranger.status_code, stranger["Location"].split("?")[0]) == (302, "/accounts/login/")
    assert browser(owner).get(path).status_code == 200


@pytest.mark.parametrize("page", OF_ONE)
def test_a_reservation_is_there_for_its_owner_and_for_nobody_else(
    page: str, browser: Any, owner: User, other: User, staff: User, reservation: Reservation
) -> None:
    path = f"/reservations/{reservation.pk}/{page}"

    assert browser(owner).get(path).status_code == 200
    assert browser(other).get(path).status_code == 404
    assert browser(staff).get(path).status_code == 404
    assert browser().get(path).status_code == 302


@pytest.mark.parametrize("deed", ["delete", "stop", "start"])
def test_nobody_else_can_do_anything_to_it(deed: str, browser: Any, other: User, reservation: Reservation) -> None:
    answer = browser(other).post(f"/reservations/{reservation.pk}/{deed}/")

    row = Reservation.objects.get()
    assert answer.status_code == 404
    assert (row.state, row.wish) == ("booked", "run")


def test_a_list_has_only_ones_own(browser: Any, owner: User, other: User, reservation: Reservation) -> None:
    make_reservation(other, now=timezone.now(), name="the-other-ones")

    page = browser(owner).get("/reservations/").content.decode()

    assert f"/reservations/{reservation.pk}/" in page
    assert "the-other-ones" not in page


def test_credentials_are_shown_to_the_owner_who_asks(browser: Any, owner: User, reservation: Reservation) -> None:
    Reservation.objects.update(state="running")

    page = browser(owner).post(f"/reservations/{reservation.pk}/credentials/").content.decode()

    assert reservation.credentials["password"] in page


@pytest.mark.parametrize("path", ["/monitor/", "/admin/"])
def test_the_machine_room_is_for_staff(path: str, browser: Any, owner: User, staff: User, node: Node) -> None:
    assert browser(staff).get(path).status_code == 200
    assert browser(owner).get(path).status_code in {302, 404}
    assert browser().get(path).status_code == 302


def test_customers_are_told_that_there_is_no_monitor(browser: Any, owner: User) -> None:
    assert browser(owner).get("/monitor/").status_code == 404


def test_what_does_not_exist_has_a_page_of_its_own(browser: Any) -> None:
    answer = browser().get("/nothing/")

    assert answer.status_code == 404
    assert "Berth" in answer.content.decode()


@pytest.mark.parametrize(
    "path",
    [
        "/reservations/new/?service=%00",
        "/reservations/new/?service=nothing",
        "/reservations/?page=%00",
        "/reservations/?page=99999999999999999999",
        "/reservations/99999999999999999999/",
        "/billing/?month=9999-12",
        "/billing/?month=0001-01",
        "/billing/?month=0000-13",
        "/billing/?month=%00",
        "/reservations/?show=%00",
    ],
)
@pytest.mark.parametrize("zone", ["", "Pacific/Kiritimati", "Pacific/Niue"])
def test_no_address_that_somebody_types_breaks_a_page(path: str, zone: str, browser: Any, owner: User) -> None:
    client = browser(owner)
    client.cookies["berth_zone"] = zone

    assert client.get(path).status_code in {200, 404}


# ---- booking ----------------------------------------------------------------------------------------------


def book(client: Client, **values: str) -> Any:
    return client.post("/reservations/new/", FORM | values)


def test_a_good_form_books_and_leads_to_the_reservation(browser: Any, owner: User) -> None:
    answer = book(browser(owner), name="mine")

    row = Reservation.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, f"/reservations/{row.pk}/")
    assert (row.name, row.length, row.created_by) == ("mine", timedelta(hours=1), owner)


BAD = [
    ("service", "", "Choose a service."),
    ("service", "nothing", "There is no such service."),
    ("service", "a\0", "Null characters"),
    ("size", "", "Choose a size."),
    ("size", "nothing", "There is no such size."),
    ("duration", "", "Choose a duration, or type an end."),
    ("duration", "61", "This duration is not offered."),
    ("duration", "-60", "This duration is not offered."),
    ("duration", "1e30", "This duration is not offered."),
    ("duration", "nan", "This duration is not offered."),
    ("start", "yesterday", "Type the start as date and time"),
    ("start", "2020-01-01T00:00", "The start is in the past."),
    ("start", "0001-01-01T00:00", "Type a year between 1971 and 2200."),
    ("start", "9999-12-31T23:59", "Type a year between 1971 and 2200."),
    ("start", "2199-12-31T23:59", "at most 180 days ahead"),
    ("storage", "C9", "There is no such profile."),
    ("storage_gb", "0", "greater than or equal to 1"),
    ("storage_gb", "21", "between 1 and 20 GB"),
    ("storage_gb", "9" * 400, ""),
    ("volume", "7", "There is no such volume in this workspace."),
    ("volume", "9" * 40, "There is no such volume in this workspace."),
    ("name", "x" * 61, "at most 60"),
    ("name", "a\0", "Null characters are not allowed"),
    ("name", "a\u202e", "direction of writing"),
]


@pytest.mark.parametrize("zone", ["", "Pacific/Kiritimati"])
@pytest.mark.parametrize(("field", "value", "sentence"), BAD)
def test_a_mistake_is_told_at_its_field_and_nothing_is_booked(
    field: str, value: str, sentence: str, zone: str, browser: Any, owner: User
) -> None:
    client = browser(owner)
    client.cookies["berth_zone"] = zone

    answer = book(client, **{field: value})

    assert answer.status_code == 422
    assert sentence in " ".join(answer.context["form"].errors[field])
    assert not Reservation.objects.exists()


def test_a_service_that_is_not_available_is_told_at_its_field(browser: Any, owner: User) -> None:
    make_service("redis", digest="")

    answer = book(browser(owner), service="redis")

    assert answer.status_code == 422
    assert "not in the private registry" in str(answer.context["form"].errors["service"])


def test_when_nothing_fits_the_page_says_when_it_would(browser: Any, owner: User) -> None:
    Node.objects.update(ram_mib=512)
    book(browser(owner))

    answer = book(browser(owner))

    assert answer.status_code == 422
    assert "No resources available" in str(answer.context["form"].non_field_errors())
    assert answer.context["next_slot"] > timezone.now()


def test_over_quota_is_told_on_the_page(browser: Any, owner: User) -> None:
    Workspace.objects.update(max_reservations=0)

    assert "Over the quota" in str(book(browser(owner)).context["form"].non_field_errors())


def test_what_somebody_typed_is_shown_and_never_run(browser: Any, owner: User) -> None:
    book(browser(owner), name="<script>alert(1)</script>")

    page = browser(owner).get("/reservations/").content.decode()

    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page


def test_the_quote_tells_price_and_room_and_holds_nothing(browser: Any, owner: User) -> None:
    answer = browser(owner).post("/reservations/quote/", FORM | {"duration": "120"})

    quote = answer.context["quote"]
    assert answer.status_code == 200
    assert (str(quote.price), quote.fits, quote.problems) == ("0.50", True, {})
    assert "<html" not in answer.content.decode()
    assert not Reservation.objects.exists()


@pytest.mark.parametrize("field", ["service", "size", "duration", "start"])
def test_a_quote_for_half_a_form_is_no_error(field: str, browser: Any, owner: User) -> None:
    answer = browser(owner).post("/reservations/quote/", FORM | {field: "nothing"})

    assert answer.status_code == 200
    assert list(answer.context["quote"].problems) == [field]


def test_the_quote_says_why_there_is_no_room_and_when_there_is(browser: Any, owner: User) -> None:
    Node.objects.update(ram_mib=512)
    book(browser(owner))

    quote = browser(owner).post("/reservations/quote/", FORM).context["quote"]

    assert not quote.fits
    assert "not enough RAM" in quote.sentence
    assert quote.next_slot > timezone.now()


# ---- deleting, stopping -----------------------------------------------------------------------------------


def test_deleting_asks_first_and_then_takes_it_down(browser: Any, owner: User, reservation: Reservation) -> None:
    client = browser(owner)
    path = f"/reservations/{reservation.pk}/delete/"

    asked = client.get(path)
    state_after_asking = Reservation.objects.get().state
    answer = client.post(path, follow=True)

    assert (asked.status_code, state_after_asking) == (200, "booked")
    assert Reservation.objects.get().state == "ending"
    assert "is being taken down" in answer.content.decode()


def test_what_is_over_cannot_be_deleted_again(browser: Any, owner: User, reservation: Reservation) -> None:
    Reservation.objects.update(state="ended")

    answer = browser(owner).post(f"/reservations/{reservation.pk}/delete/", follow=True)

    assert "is over already" in answer.content.decode()
    assert Reservation.objects.get().state == "ended"


@pytest.mark.parametrize(("deed", "wish"), [("stop", "stop"), ("start", "run")])
def test_stopping_and_starting_are_wishes(
    deed: str, wish: str, browser: Any, owner: User, reservation: Reservation
) -> None:
    answer = browser(owner).post(f"/reservations/{reservation.pk}/{deed}/")

    assert answer["Location"] == f"/reservations/{reservation.pk}/"
    assert Reservation.objects.get().wish == wish


@pytest.mark.parametrize("path", ["delete/", "stop/", "start/"])
def test_a_link_on_another_site_can_do_nothing(path: str, owner: User, reservation: Reservation) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")

    answer = client.post(f"/reservations/{reservation.pk}/{path}")

    assert answer.status_code == 403
    assert "This form has expired" in answer.content.decode()
    assert Reservation.objects.get().state == "booked"


@pytest.mark.parametrize("path", ["stop/", "start/"])
def test_reading_an_address_changes_nothing(path: str, browser: Any, owner: User, reservation: Reservation) -> None:
    assert browser(owner).get(f"/reservations/{reservation.pk}/{path}").status_code == 405


# ---- how often the database is asked ----------------------------------------------------------------------


@pytest.mark.parametrize(
    # Two of each are the topbar's: the bell and the workspaces. The list asks for what its filters offer, too.
    ("path", "most"),
    [("/reservations/", 14), ("/reservations/?show=past", 14), ("/billing/", 32)],
)
def test_a_list_of_25_asks_the_database_as_often_as_one_of_1(path: str, most: int, browser: Any, owner: User) -> None:
    Workspace.objects.update(max_reservations=99, max_cores=99, max_ram_mib=99_999)
    client, counts = browser(owner), []
    for more in (1, 24):
        for _ in range(more):
            make_reservation(owner, now=timezone.now())
        Reservation.objects.update(state="ended" if "past" in path else "running")
        client.get(path)
        with CaptureQueriesContext(connection) as asked:
            assert client.get(path).status_code == 200
        counts.append(len(asked))

    assert counts[0] == counts[1] <= most


def test_the_monitor_asks_as_often_for_many_nodes_as_for_one(browser: Any, staff: User, node: Node) -> None:
    client, counts = browser(staff), []
    for more in (0, 20):
        for _ in range(more):
            make_node()
        client.get("/monitor/")
        with CaptureQueriesContext(connection) as asked:
            client.get("/monitor/")
        counts.append(len(asked))

    assert counts[0] == counts[1]


def test_somebody_whom_the_admin_pages_made_gets_a_workspace_on_first_use(browser: Any, owner: User) -> None:
    newcomer = User.objects.create_user("new")

    assert browser(newcomer).get("/reservations/new/").status_code == 200
    assert Workspace.objects.filter(personal_of=newcomer).exists()


def test_a_form_that_is_refused_with_422_is_swapped_in_and_no_other_error_is(browser: Any, owner: User) -> None:
    page = browser(owner).get("/reservations/").content.decode()
    config = json.loads(html.unescape(re.findall(r"""name="htmx-config"\s+content='([^']+)'""", page)[0]))

    def swaps(status: str) -> bool:
        return bool(next(rule["swap"] for rule in config["responseHandling"] if re.search(rule["code"], status)))

    assert [swaps(status) for status in ("200", "204", "302", "422", "403", "404", "500")] == (
        [True, False, True, True, False, False, False]
    )
