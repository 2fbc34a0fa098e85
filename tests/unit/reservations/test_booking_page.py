"""The booking page: what is wrong is said at its field and nothing typed is lost; offers, the week, book again."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import escape

from accounts.models import User, Workspace
from accounts.workspaces import personal_workspace
from billing.models import Rate
from compute.models import Node
from reservations import actions
from reservations.models import Reservation, ServiceVersion, StorageProfile
from reservations.sizes import CustomSize
from tests.factories import (
    DIGEST,
    make_booking,
    make_node,
    make_profiles,
    make_reservation,
    make_service,
    make_size,
    make_storage,
    make_user,
)

pytestmark = pytest.mark.django_db
FORM = {"service": "nginx", "size": "small", "duration": "60", "storage": "C1"}
OWN = FORM | {"size": "custom", "cores": "1.25", "ram_mib": "704"}
SCHEMA = {
    "type": "object",
    "properties": {
        "LEVEL": {"type": "string", "enum": ["low", "high"], "title": "How much"},
        "COUNT": {"type": "integer", "minimum": 1, "maximum": 8},
        "FLAG": {"type": "boolean"},
        "WORD": {"type": "string", "maxLength": 10},
    },
}


@pytest.fixture
def owner() -> User:
    make_node(ram_mib=8192, cores=8)
    make_profiles()
    make_service(options=SCHEMA)
    return make_user("ada")


@pytest.fixture
def browser(owner: User) -> Client:
    client = Client()
    client.force_login(owner, backend="django.contrib.auth.backends.ModelBackend")
    return client


def send(browser: Client, form: dict[str, Any], page: str = "new") -> Any:
    return browser.post(f"/reservations/{page}/", form)


def refused(browser: Client, form: dict[str, Any]) -> dict[str, Any]:
    """The form's errors; nothing was booked, and what was typed is there again."""
    answer = send(browser, form)
    assert answer.status_code == 422
    assert not Reservation.objects.exists()
    bound = answer.context["form"]
    assert {name: str(bound[name].value()) for name in form if name in bound.fields} == {
        name: str(value) for name, value in form.items() if name in bound.fields
    }
    return {name: str(errors[0]) for name, errors in bound.errors.items()}


# ---- a size of one's own --------------------------------------------------------------------------------------------
def test_a_size_of_ones_own_is_booked(browser: Client) -> None:
    assert send(browser, OWN).status_code == 302

    row = Reservation.objects.get()
    assert (row.cores, row.ram_mib) == (Decimal("1.25"), 704)


@pytest.mark.parametrize(
    ("field", "typed", "says"),
    [
        ("cores", "", "Type how many cores."),
        ("cores", "many", "Type the cores as a number"),
        ("cores", "NaN", "Type the cores as a number"),
        ("cores", "1e99", "digits"),
        ("cores", "0", "steps of 0.25"),
        ("cores", "-1", "steps of 0.25"),
        ("cores", "0.3", "steps of 0.25"),
        ("cores", "8.25", "quota"),
        ("cores", "🚢", "Type the cores as a number"),
        ("ram_mib", "", "Type how much RAM."),
        ("ram_mib", "1.5", "whole number"),
        ("ram_mib", "63", "steps of 64"),
        ("ram_mib", "100", "steps of 64"),
        ("ram_mib", "8256", "largest compute node"),
        ("ram_mib", "65536", "quota"),
        ("ram_mib", str(10**30), "less than or equal"),
    ],
)
def test_a_size_that_cannot_be_says_so_at_its_field(field: str, typed: str, says: str, browser: Client) -> None:
    found = refused(browser, OWN | {field: typed})

    assert list(found) == [field]
    assert says in found[field]


# ---- options and versions -------------------------------------------------------------------------------------------
def test_what_is_set_of_a_service_is_booked_and_of_others_it_is_not(browser: Client) -> None:
    make_service("redis", options=SCHEMA)
    ServiceVersion.objects.create(service=make_service(), name="2", image="library/nginx:2", digest=DIGEST)
    form = FORM | {
        "version-nginx": "2",
        "option-nginx-COUNT": "3",
        "option-nginx-FLAG": "true",
        "option-nginx-WORD": "{password}",
        "option-redis-LEVEL": "high",
    }

    assert send(browser, form).status_code == 302

    row = Reservation.objects.get()
    assert row.version == "2"
    assert row.options == {"COUNT": 3, "FLAG": True, "WORD": "{password}"}


def test_what_an_option_is_about_is_text(browser: Client) -> None:
    about = 'as <b>MB</b>, "max" & more'
    make_service("redis", options={"type": "object", "properties": {"LIMIT": {"type": "string", "description": about}}})

    page = browser.get("/reservations/new/").content.decode()

    assert escape(about) in page
    assert "<b>MB" not in page


@pytest.mark.parametrize(
    ("field", "typed"),
    [
        ("option-nginx-LEVEL", "middle"),
        ("option-nginx-COUNT", "9"),
        ("option-nginx-COUNT", "many"),
        ("option-nginx-COUNT", "9" * 19),
        ("option-nginx-FLAG", "perhaps"),
        ("option-nginx-WORD", "far too long a word"),
        ("option-nginx-WORD", "a\0b"),
        ("option-nginx-WORD", "🚢" * 500),
        ("version-nginx", "3"),
        ("version-nginx", "2\0"),
    ],
)
def test_an_option_that_cannot_be_says_so_at_its_field(field: str, typed: str, browser: Client) -> None:
    ServiceVersion.objects.create(service=make_service(), name="2", image="library/nginx:2", digest=DIGEST)

    assert list(refused(browser, FORM | {field: typed})) == [field]


# ---- time -----------------------------------------------------------------------------------------------------------
def typed(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M}"


def full_hour(hours: int) -> datetime:
    return timezone.now().astimezone(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=hours)


def test_an_exact_end_wins_over_a_duration(browser: Client) -> None:
    form = FORM | {"start": typed(full_hour(2)), "end": typed(full_hour(5)), "duration": "60"}

    assert send(browser, form).status_code == 302

    row = Reservation.objects.get()
    assert (row.start, row.end) == (full_hour(2), full_hour(5))


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        (typed(full_hour(5)), typed(full_hour(4)), "after the start"),
        ("", "2020-01-01T10:00", "after the start"),
        ("", typed(full_hour(5) + timedelta(minutes=7)), "full 15 minutes"),
        ("", "tomorrow", "Type the end"),
        ("", "2199-12-31T23:45", "hours can be booked at once"),
        ("", "9999-12-31T23:45", "Type a year between"),
    ],
)
def test_an_end_that_cannot_be_says_so_at_its_field(start: str, end: str, says: str, browser: Client) -> None:
    found = refused(browser, FORM | {"start": start, "end": end})

    assert says in found["end"]


def test_neither_a_duration_nor_an_end_is_asked_for(browser: Client) -> None:
    assert "or type an end" in refused(browser, FORM | {"duration": ""})["duration"]


# ---- several copies -------------------------------------------------------------------------------------------------
def test_several_copies_are_booked_together_with_numbered_names(browser: Client) -> None:
    answer = send(browser, FORM | {"copies": "3", "name": "seat"})

    assert answer.headers["Location"] == "/reservations/"
    rows = list(Reservation.objects.order_by("pk"))
    assert [row.name for row in rows] == ["seat 1", "seat 2", "seat 3"]
    assert len({row.batch for row in rows}) == 1
    assert rows[0].batch is not None


@pytest.mark.parametrize(
    ("copies", "says"),
    [
        ("0", "At least one"),
        ("-1", "At least one"),
        ("11", "At most 10 copies"),
        ("1000000", "At most 10 copies"),
        ("1" + "0" * 4000, "At most 10 copies"),
        ("two", "whole number"),
        ("1.5", "whole number"),
    ],
)
def test_so_many_copies_cannot_be(copies: str, says: str, browser: Client) -> None:
    assert says in refused(browser, FORM | {"copies": copies})["copies"]


def test_copies_over_the_quota_or_without_room_book_nothing(browser: Client) -> None:
    answer = send(browser, FORM | {"copies": "10", "size": "custom", "cores": "1", "ram_mib": "512"})
    assert "Over the quota" in str(answer.context["form"].non_field_errors())

    answer = send(browser, FORM | {"copies": "3", "size": "custom", "cores": "0.25", "ram_mib": "3008"})
    assert "None of the 3 copies" in str(answer.context["form"].non_field_errors())

    assert not Reservation.objects.exists()


def test_several_copies_cannot_share_a_kept_volume(browser: Client) -> None:
    make_storage()

    assert "one reservation at a time" in refused(browser, FORM | {"copies": "2", "storage": "C3"})["copies"]


def test_a_name_with_its_number_is_not_too_long(browser: Client) -> None:
    assert "together with its number" in refused(browser, FORM | {"copies": "2", "name": "x" * 60})["name"]


def test_a_name_of_500_emoji_gets_its_sentence(browser: Client) -> None:
    assert "60" in refused(browser, FORM | {"name": "🚢" * 500})["name"]


# ---- what could be had instead --------------------------------------------------------------------------------------
def asked(browser: Client, form: dict[str, Any]) -> Any:
    answer = send(browser, form, "quote")
    assert answer.status_code == 200
    return answer.context["quote"]


def fill(hours: int, ram_mib: int = 8000) -> None:
    """Somebody else has nearly all of the node for so long from now on."""
    make_reservation(
        make_user("other"),
        now=timezone.now(),
        size=CustomSize(Decimal(1), ram_mib - ram_mib % 64),
        length=timedelta(hours=hours),
    )


def test_where_nothing_fits_it_says_when_and_what_smaller_size_does(browser: Client) -> None:
    make_size("tiny", cores=Decimal("0.25"), ram_mib=64)
    fill(3)

    quote = asked(browser, FORM)

    assert quote.can_wait
    kinds = {offer.kind: offer for offer in quote.offers}
    assert kinds["earliest"].start == quote.next_slot
    assert timedelta(hours=2) < quote.next_slot - timezone.now() < timedelta(hours=3, minutes=2)
    assert kinds["smaller"].size.slug == "tiny"


def use_up(owner: User, hours: int = 3) -> None:
    """Nearly all cores of the owner's own quota are in use for so long; the node has room."""
    workspace = personal_workspace(owner)
    cores = workspace.max_cores - Decimal("0.25")
    make_reservation(owner, now=timezone.now(), size=CustomSize(cores, 256), length=timedelta(hours=hours))


def test_where_the_quota_refuses_it_says_when_it_would_not_and_what_smaller_size_is_within_it(
    browser: Client, owner: User
) -> None:
    make_node("second", ram_mib=8192, cores=8)
    make_size("tiny", cores=Decimal("0.25"), ram_mib=64)
    use_up(owner)

    quote = asked(browser, FORM)

    assert quote.refusal.code == "quota"
    assert quote.sentence == "Over the quota of ada: this would make 8.25 cores at once, and 8 are allowed."
    offers = {offer.kind: offer for offer in quote.offers}
    assert offers["earliest"].start == quote.next_slot
    assert timedelta(hours=2, minutes=59) < quote.next_slot - timezone.now() < timedelta(hours=3, minutes=2)
    assert offers["smaller"].size.slug == "tiny"
    assert asked(browser, FORM | {"size": "tiny"}).fits
    assert asked(browser, FORM | {"start": typed(quote.next_slot)}).fits


def test_where_the_quota_refuses_and_nothing_fits_either_nothing_is_offered(browser: Client, owner: User) -> None:
    make_size("tiny", cores=Decimal("0.25"), ram_mib=64)
    use_up(owner, hours=5)
    make_node("second", ram_mib=8192, cores=8)
    Node.objects.update(state=Node.State.CORDONED)

    quote = asked(browser, FORM)

    assert quote.refusal.code == "quota"
    assert (quote.offers, quote.next_slot) == ([], None)


def test_an_offer_is_taken_without_javascript_and_the_form_keeps_the_rest(browser: Client) -> None:
    make_size("tiny", cores=Decimal("0.25"), ram_mib=64)
    start = full_hour(30)

    answer = send(
        browser, FORM | {"name": "mine", "take": urlencode({"start": typed(start), "size": "tiny", "user": "x"})}
    )

    assert answer.status_code == 200
    form = answer.context["form"]
    assert (form["start"].value(), form["size"].value(), form["name"].value()) == (typed(start), "tiny", "mine")
    assert answer.context["quote"].fits
    assert answer.context["week"].nodes == 1
    assert not Reservation.objects.exists()


@pytest.mark.parametrize("take", ["", "\0", "size=\0", "size=nope", "start=%00", "copies=x", "a" * 5000, "&&=&"])
def test_a_button_of_somebodys_own_making_books_nothing(take: str, browser: Client) -> None:
    assert send(browser, FORM | {"take": take}).status_code == 200
    assert not Reservation.objects.exists()


def test_an_exact_end_is_kept_exact_in_what_is_offered(browser: Client) -> None:
    fill(3)

    quote = asked(browser, FORM | {"end": typed(full_hour(2)), "duration": ""})

    [offer] = [offer for offer in quote.offers if offer.kind == "earliest"]
    assert offer.start.minute % 15 == 0
    assert offer.end.minute % 15 == 0
    answer = send(browser, FORM | {"start": typed(offer.start), "end": typed(offer.end)})
    assert answer.status_code == 302


def test_the_cheapest_start_of_two_days_is_offered_when_prices_change(browser: Client) -> None:
    change = full_hour(20)
    begin = timezone.now() - timedelta(days=1)
    Rate.objects.all().delete()
    Rate.objects.create(currency="USD", during=(begin, change), per_core_hour=Decimal(10))
    Rate.objects.create(currency="USD", during=(change, None), per_core_hour=Decimal(1))

    quote = asked(browser, FORM)

    assert quote.fits
    [offer] = quote.offers
    assert (offer.kind, offer.start, offer.price) == ("cheapest", change, Decimal("0.50"))


def test_what_begins_after_two_days_is_not_the_cheapest_of_them(browser: Client) -> None:
    begin, change = timezone.now() - timedelta(days=1), full_hour(20)
    Rate.objects.all().delete()
    Rate.objects.create(currency="USD", during=(begin, change), per_core_hour=Decimal(10))
    Rate.objects.create(currency="USD", during=(change, None), per_core_hour=Decimal(1))
    fill(60)

    quote = asked(browser, FORM)

    assert [offer.kind for offer in quote.offers] == ["earliest"]
    assert quote.next_slot - timezone.now() > timedelta(hours=48)


def test_what_is_offered_for_copies_has_room_for_all_of_them(browser: Client) -> None:
    make_size("tiny", cores=Decimal("0.25"), ram_mib=128)
    fill(3)
    soon = timezone.now() + timedelta(hours=3)
    other = make_user("third")
    make_reservation(other, now=soon, size=CustomSize(Decimal(1), 4032), length=timedelta(hours=2))
    copies = FORM | {"copies": "2", "size": "custom", "cores": "0.25", "ram_mib": "3008"}

    quote = asked(browser, copies)

    [offer] = [offer for offer in quote.offers if offer.kind == "earliest"]
    assert offer.start >= soon + timedelta(hours=2) - timedelta(minutes=2)
    assert "smaller" not in [offer.kind for offer in quote.offers]  # one tiny has room now, two have not
    assert send(browser, copies | {"start": typed(offer.start)}).status_code == 302


def test_without_another_price_nothing_is_cheaper(browser: Client) -> None:
    assert asked(browser, FORM).offers == []


def test_the_price_of_copies_is_that_of_all_and_fewer_are_offered(browser: Client) -> None:
    single = asked(browser, FORM).price

    assert asked(browser, FORM | {"copies": "4"}).price == 4 * single

    quote = asked(browser, FORM | {"copies": "3", "size": "custom", "cores": "0.25", "ram_mib": "3008"})
    assert [(offer.kind, offer.copies) for offer in quote.offers] == [("fewer", 2)]


def test_the_price_takes_as_many_queries_with_many_nodes(browser: Client) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            asked(browser, FORM)
        return len(queries)

    fill(3)
    count()
    first = count()
    for number in range(20):
        make_node(f"more{number}", ram_mib=128)

    assert count() == first


# ---- the week -------------------------------------------------------------------------------------------------------
def test_the_week_says_where_there_is_room(browser: Client) -> None:
    now = timezone.now()
    fill(30)

    answer = send(browser, FORM, "week")

    week = answer.context["week"]
    rooms = {hour.start: hour.room for day in week.days for hour in day.hours if hour}
    assert len(week.days) == 7
    assert rooms[full_hour(10)] == "full"
    assert rooms[full_hour(32)] == "free"
    assert {room for start, room in rooms.items() if start < now - timedelta(hours=1)} <= {"past"}
    assert f"start={typed(full_hour(32))}" in answer.content.decode()


def test_the_week_of_a_size_that_no_node_has_says_so(browser: Client) -> None:
    make_size("vast", cores=Decimal(500), ram_mib=10**6)

    assert "big enough" in send(browser, FORM | {"size": "vast"}, "week").content.decode()


def test_without_a_size_the_week_asks_for_one(browser: Client) -> None:
    assert "Choose a size" in send(browser, {"service": "nginx"}, "week").content.decode()


# ---- book again -----------------------------------------------------------------------------------------------------
def test_book_again_begins_with_what_was_booked(browser: Client, owner: User) -> None:
    row = make_reservation(
        owner,
        size=CustomSize(Decimal("1.75"), 704),
        name="mine",
        length=timedelta(hours=3),
        options={"FLAG": False},
        storage_gb=3,
    )

    form = browser.get(f"/reservations/new/?again={row.pk}").context["form"]

    values = {name: form[name].value() for name in ("service", "size", "cores", "ram_mib", "name", "duration")}
    assert values == {
        "service": "nginx",
        "size": "custom",
        "cores": Decimal("1.75"),
        "ram_mib": 704,
        "name": "mine",
        "duration": 240,
    }
    assert (form["storage"].value(), form["storage_gb"].value()) == ("C1", 3)
    assert form["option-nginx-FLAG"].value() == "false"


def test_book_again_of_ten_cores_says_10(browser: Client, owner: User) -> None:
    make_node("large", ram_mib=8192, cores=16)
    Workspace.objects.update(max_cores=16)
    row = make_reservation(owner, now=timezone.now(), size=CustomSize(Decimal(10), 704))
    form = browser.get(f"/reservations/new/?again={row.pk}").context["form"]
    assert str(form["cores"].value()) == "10"


def test_book_again_knows_a_size_of_the_catalogue(browser: Client, owner: User) -> None:
    row = make_reservation(owner)

    assert browser.get(f"/reservations/new/?again={row.pk}").context["form"]["size"].value() == "small"


@pytest.mark.parametrize("number", ["another's", "0", "-1", "9" * 18, "9" * 500, "x", "%00", "²", "1.0"])
def test_book_again_of_what_is_not_ones_own_is_an_empty_form_that_says_so(number: str, browser: Client) -> None:
    if number == "another's":
        number = str(make_reservation(make_user("other")).pk)

    answer = browser.get(f"/reservations/new/?again={number}")

    assert answer.status_code == 200
    assert answer.context["form"]["service"].value() is None
    assert "no such reservation" in answer.content.decode()


def test_the_page_takes_as_many_queries_with_many_services(browser: Client) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert browser.get("/reservations/new/").status_code == 200
        return len(queries)

    count()
    first = count()
    for number in range(30):
        service = make_service(f"more{number}", options=SCHEMA)
        ServiceVersion.objects.create(service=service, name="2", image="library/nginx:2", digest=DIGEST)

    assert count() == first


# ---- a kept volume that somebody has --------------------------------------------------------------------------------
def test_a_volume_that_is_booked_is_no_room_and_says_from_when_on_it_is_free(browser: Client, owner: User) -> None:
    make_storage()
    first = make_reservation(owner, now=timezone.now(), storage=StorageProfile.objects.get(code="C3"), storage_gb=2)
    form = FORM | {"storage": "C3", "volume": str(first.kept_volume_id)}

    asked = send(browser, form, "quote").context["quote"]
    booked = send(browser, form)

    assert not asked.fits
    assert asked.refusal.code == "volume_taken"
    [offer] = asked.offers
    assert first.end <= offer.start == asked.next_slot < first.end + timedelta(minutes=1)
    assert booked.context["next_slot"] == asked.next_slot
    assert send(browser, form | {"start": typed(offer.start)}).status_code == 302


def test_a_gap_that_is_too_short_is_not_when_the_volume_is_free(owner: User) -> None:
    make_storage()
    now, hour = timezone.now().replace(second=0, microsecond=0), timedelta(hours=1)
    kept: dict[str, Any] = {"storage": StorageProfile.objects.get(code="C3"), "storage_gb": 2}
    first = make_reservation(owner, now=now, length=hour, **kept)
    make_reservation(owner, now=now, start=now + 2 * hour, length=hour, volume=first.kept_volume, **kept)
    wanted = make_booking(length=2 * hour, volume=first.kept_volume, **kept)

    with pytest.raises(actions.VolumeTaken) as refused:
        actions.check_volume(wanted, now, now + 2 * hour)

    assert refused.value.next_slot == now + 3 * hour
