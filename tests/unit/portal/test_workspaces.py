"""The pages of workspaces, and their part of the API: for owner, manager, member, stranger, anonymous and staff."""

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import inviting, team_views
from accounts.models import Invitation, Membership, Role, User, Workspace
from compute.models import Volume
from portal import logs
from reservations.models import Reservation, WorkspaceVolume
from tests.factories import (
    PASSWORD,
    make_reservation,
    make_storage,
    make_team,
    make_token,
    make_user,
    work_in,
    workspace_of,
)
from tests.unit.portal.conftest import Call

pytestmark = pytest.mark.django_db
Browser = Callable[..., Client]
EMOJI = "\N{GRINNING FACE}" * 500


@pytest.fixture
def people(owner: User) -> dict[str, User]:
    """`owner` is ada, who has a node to book on; the others by their role."""
    found = {"owner": owner, "manager": make_user("max"), "member": make_user("ben"), "stranger": make_user("sam")}
    return found | {"staff": make_user("root", is_staff=True, is_superuser=True)}


@pytest.fixture
def crew(people: dict[str, User]) -> Workspace:
    return make_team("Crew", owner=people["owner"], manager=people["manager"], member=people["member"])


def text(answer: Any) -> str:
    return str(answer.content.decode())


# ---- who may what -----------------------------------------------------------------------------------------

DEEDS = {  # path, what is sent, the least role
    "rename/": ({"name": "Other"}, Role.OWNER),
    "close/": ({}, Role.OWNER),
    "invite/": ({"email": "new@example.org", "role": "member"}, Role.MANAGER),
    "invitations/{invitation}/resend/": ({}, Role.MANAGER),
    "invitations/{invitation}/revoke/": ({}, Role.MANAGER),
    "members/{ben}/remove/": ({}, Role.MANAGER),
    "members/{ben}/role/": ({"role": "manager"}, Role.OWNER),
}
RANK = {"owner": 3, "manager": 2, "member": 1}


@pytest.mark.parametrize("who", ["owner", "manager", "member", "stranger", "staff", "anonymous"])
@pytest.mark.parametrize("deed", DEEDS)
def test_who_may_do_what_to_a_workspace(
    deed: str, who: str, crew: Workspace, people: dict[str, User], browser: Browser
) -> None:
    form, least = DEEDS[deed]
    before = state_of(crew)
    path = deed.format(ben=people["member"].pk, invitation=make_invitation(crew).pk)

    answer = browser(people.get(who)).post(f"/workspaces/{crew.pk}/{path}", form)

    if who == "anonymous":
        assert (answer.status_code, "/accounts/login/" in answer["Location"]) == (302, True)
    else:
        may = RANK.get(who, 0) >= RANK[least]
        assert answer.status_code == (302 if may else 403 if who in RANK else 404)
        if answer.status_code == 403:
            assert "of Crew may" in text(answer)
    if answer.status_code != 302 or who == "anonymous":
        assert state_of(crew) == before
        assert not mail.outbox
        assert Invitation.objects.get().revoked_at is None


def state_of(workspace: Workspace) -> tuple[object, ...]:
    row = Workspace.objects.get(pk=workspace.pk)
    members = Membership.objects.filter(workspace=row).order_by("user").values_list("user", "role")
    return row.name, row.closed_at, list(members)


def make_invitation(workspace: Workspace, email: str = "guest@example.org", **values: Any) -> Invitation:
    now = timezone.now()
    usual = {"digest": inviting.digest_of(email), "created_at": now, "expires_at": now + inviting.GOOD_FOR}
    return Invitation.objects.create(workspace=workspace, email=email, **usual | values)


@pytest.mark.parametrize("who", ["owner", "manager", "member"])
def test_the_page_shows_a_reader_what_they_may_do(
    who: str, crew: Workspace, people: dict[str, User], browser: Browser
) -> None:
    make_invitation(crew)

    page = text(browser(people[who]).get(f"/workspaces/{crew.pk}/"))

    leads = who != "member"
    assert ("Invite</a>" in page, "guest@example.org" in page) == (leads, leads)
    assert (f"/members/{people['member'].pk}/role/" in page, "/rename/" in page) == (who == "owner", who == "owner")
    assert (f"/members/{people['member'].pk}/remove/" in page) is leads
    assert "/leave/" in page


# ---- bad input --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "   ", EMOJI, "a\0b", "x" * 81])
def test_a_name_that_cannot_be_is_a_sentence_at_its_field(
    name: str, crew: Workspace, people: dict[str, User], browser: Browser
) -> None:
    for page in ("/workspaces/new/", f"/workspaces/{crew.pk}/rename/"):
        answer = browser(people["owner"]).post(page, {"name": name})

        assert answer.status_code == 422
        assert answer.context["form"].errors["name"]
    assert set(Workspace.objects.filter(personal_of=None)) == {crew}


@pytest.mark.parametrize(
    "email", ["", "nobody", "a@b", "a\0@example.org", f"{EMOJI}@example.org", "x" * 300 + "@e.org"]
)
def test_an_address_that_is_none_is_a_sentence_at_its_field(
    email: str, crew: Workspace, people: dict[str, User], browser: Browser
) -> None:
    answer = browser(people["owner"]).post(f"/workspaces/{crew.pk}/invite/", {"email": email, "role": "member"})

    assert answer.status_code == 422
    assert answer.context["form"].errors["email"]
    assert not mail.outbox


def test_a_manager_who_sends_the_role_of_an_owner_gets_a_sentence(
    crew: Workspace, people: dict[str, User], browser: Browser
) -> None:
    form = {"email": "new@example.org", "role": "owner"}
    answer = browser(people["manager"]).post(f"/workspaces/{crew.pk}/invite/", form)

    assert answer.status_code == 422
    assert answer.context["form"].errors["role"]
    assert 'value="new@example.org"' in text(answer)  # nothing typed is lost


@pytest.mark.parametrize("role", ["", "king", "owner\0", "9" * 50])
def test_a_role_that_there_is_not_changes_nothing(
    role: str, crew: Workspace, people: dict[str, User], browser: Browser
) -> None:
    path = f"/workspaces/{crew.pk}/members/{people['member'].pk}/role/"
    answer = browser(people["owner"]).post(path, {"role": role}, follow=True)

    assert "Choose a role" in text(answer)
    assert Membership.objects.get(workspace=crew, user=people["member"]).role == "member"


def test_a_role_change_that_would_leave_no_owner_is_a_sentence(
    crew: Workspace, people: dict[str, User], browser: Browser
) -> None:
    path = f"/workspaces/{crew.pk}/members/{people['owner'].pk}/role/"
    answer = browser(people["owner"]).post(path, {"role": "member"}, follow=True)

    assert "Crew would be left without an owner" in text(answer)


@pytest.mark.parametrize("number", ["", "x", "0", "-1", "9" * 40, "1\0", "²"])
def test_a_workspace_that_is_none_is_not_switched_to(number: str, people: dict[str, User], browser: Browser) -> None:
    assert browser(people["owner"]).post("/workspaces/switch/", {"workspace": number}).status_code == 404


def test_a_huge_number_in_the_address_is_not_found(people: dict[str, User], browser: Browser) -> None:
    for path in (f"{9**30}/", f"invitations/{9**30}/", "join/" + "x" * 5000 + "/", "join/%00/"):
        assert browser(people["owner"]).get(f"/workspaces/{path}").status_code == 404


# ---- switching --------------------------------------------------------------------------------------------


def test_a_switch_leads_back_and_what_is_booked_is_for_it(
    crew: Workspace, people: dict[str, User], browser: Browser
) -> None:
    client = browser(people["member"])

    answer = client.post("/workspaces/switch/", {"workspace": crew.pk, "next": "/reservations/new/?service=nginx"})
    form = {"service": "nginx", "size": "small", "duration": "60", "storage": "C1"}
    page = text(client.get("/reservations/new/"))
    client.post("/reservations/new/", form)

    assert answer["Location"] == "/reservations/new/?service=nginx"
    assert "Booked for" in page
    assert Reservation.objects.get().workspace == crew


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example/", "/\\evil.example", ""])
def test_a_switch_leads_to_this_host_only(
    back: str, crew: Workspace, people: dict[str, User], browser: Browser
) -> None:
    answer = browser(people["member"]).post("/workspaces/switch/", {"workspace": crew.pk, "next": back})

    assert answer["Location"] == "/workspaces/"


def test_lists_name_the_workspace_and_who_booked(crew: Workspace, people: dict[str, User], browser: Browser) -> None:
    made = make_reservation(people["member"], now=timezone.now(), workspace=crew)

    for path in ("/reservations/", f"/reservations/{made.pk}/"):
        page = re.sub(r"\s+", " ", text(browser(people["owner"]).get(path)))
        assert "Crew · ben" in page


# ---- quota ------------------------------------------------------------------------------------------------


def test_the_quota_is_shown_with_what_is_used_now_and_ahead(
    crew: Workspace, people: dict[str, User], browser: Browser, settings: Any
) -> None:
    settings.BERTH_SUPPORT = "help@example.org"
    now = timezone.now()
    make_reservation(people["member"], now=now, workspace=crew)
    for _ in range(2):
        make_reservation(people["member"], now=now, workspace=crew, start=now + timedelta(days=1))

    answer = browser(people["owner"]).get(f"/workspaces/{crew.pk}/")

    sentences = {bar.name: bar.sentence for bar in answer.context["bars"]}
    assert sentences["Reservations at once"] == "1 of 10 in use, up to 2 booked ahead"
    assert sentences["Cores at once"] == "0.5 of 8 cores in use, up to 1 booked ahead"
    assert sentences["RAM at once"] == "0.5 of 16 GiB in use, up to 1 booked ahead"
    assert "ask for more at help@example.org" in text(answer)


def test_a_quota_of_nothing_is_a_full_bar(crew: Workspace, people: dict[str, User], browser: Browser) -> None:
    Workspace.objects.filter(pk=crew.pk).update(max_cores=0, max_reservations=0, max_ram_mib=0, max_storage_gb=0)

    answer = browser(people["owner"]).get(f"/workspaces/{crew.pk}/")

    assert {bar.level for bar in answer.context["bars"]} == {"is-full"}


def test_pages_ask_as_often_for_fifty_as_for_one(people: dict[str, User], browser: Browser) -> None:
    client, counts = browser(people["owner"]), []
    for many in (1, 50):
        team = make_team(f"Team of {many}", owner=people["owner"], member=[make_user() for _ in range(many)])
        for number in range(many):
            make_invitation(team, f"guest{number}@team{many}.org")
        make_team("Other", owner=people["owner"])
        for path in ("/workspaces/", f"/workspaces/{team.pk}/"):
            client.get(path)
            with CaptureQueriesContext(connection) as asked:
                client.get(path)
            counts.append(len(asked))

    assert counts[:2] == counts[2:]


# ---- closing ----------------------------------------------------------------------------------------------


def test_a_workspace_is_closed_when_nothing_of_it_is_live(
    crew: Workspace, people: dict[str, User], browser: Browser
) -> None:
    owner, invitation = browser(people["owner"]), make_invitation(crew)
    work_in(people["member"], crew)
    made = make_reservation(people["member"], now=timezone.now(), workspace=crew)
    image = Volume.objects.create(size_gb=1, kept=True, server=make_storage())
    WorkspaceVolume.objects.create(workspace=crew, name="kept", volume=image)

    refused = owner.post(f"/workspaces/{crew.pk}/close/")
    Reservation.objects.filter(pk=made.pk).update(state="ended")
    WorkspaceVolume.objects.all().delete()
    closed = owner.post(f"/workspaces/{crew.pk}/close/")

    assert refused.status_code == 422
    assert "1 reservation is live or booked" in text(refused)
    assert "1 kept volume is there and costs" in text(refused)
    assert closed.status_code == 302
    row = Workspace.objects.get(pk=crew.pk)
    assert row.closed_at is not None
    assert Invitation.objects.get(pk=invitation.pk).revoked_at is not None
    assert User.objects.get(pk=people["member"].pk).current_workspace is None
    # Its bills stay, and it is listed where it can be found again.
    assert owner.get(f"/billing/?workspace={crew.pk}").status_code == 200
    assert "Closed (1)" in text(owner.get("/workspaces/"))
    assert owner.post("/workspaces/switch/", {"workspace": crew.pk}).status_code == 404


# ---- the link of an invitation ----------------------------------------------------------------------------


def invited(crew: Workspace, people: dict[str, User], browser: Browser, email: str) -> str:
    """The path of the link in the mail."""
    browser(people["owner"]).post(f"/workspaces/{crew.pk}/invite/", {"email": email, "role": "member"})
    return str(re.findall(r"(/workspaces/join/[\w-]+/)", str(mail.outbox[-1].body))[0])


def test_a_newcomer_is_led_from_the_mail_through_sign_up_back_to_the_invitation(
    crew: Workspace, people: dict[str, User], browser: Browser, settings: Any
) -> None:
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    link, client = invited(crew, people, browser, "Nina@example.org"), Client()

    page = client.get(link, follow=True)
    form = {"username": "nina", "email": "nina@example.org", "password1": PASSWORD, "password2": PASSWORD}
    client.post("/accounts/signup/", form)
    confirmation = re.findall(r"(/accounts/confirm-email/[^\s]+)", str(mail.outbox[-1].body))[0]
    client.post(confirmation)
    back = client.post("/accounts/login/", {"login": "nina", "password": PASSWORD})
    asked = client.get(back["Location"])
    joined = client.post(back["Location"])

    assert "It is for the account with the address N…@example.org" in text(page)
    assert link not in page.request["PATH_INFO"]
    assert back["Location"].startswith("/workspaces/invitations/")
    assert "Join</button>" in text(asked)
    assert joined["Location"] == f"/workspaces/{crew.pk}/"
    nina = User.objects.get(username="nina")
    assert Membership.objects.get(workspace=crew, user=nina).role == "member"
    assert nina.current_workspace == crew


def test_the_link_alone_lets_nobody_in(crew: Workspace, people: dict[str, User], browser: Browser) -> None:
    link, client = invited(crew, people, browser, "guest@example.org"), browser(people["stranger"])

    page = client.get(link, follow=True)
    posted = client.post(page.request["PATH_INFO"])

    assert "This invitation is for g…@example.org" in text(page)
    assert posted.status_code == 422
    assert not Membership.objects.filter(workspace=crew, user=people["stranger"]).exists()


def test_reading_the_link_joins_nobody(crew: Workspace, people: dict[str, User], browser: Browser) -> None:
    sam = people["stranger"]
    EmailAddress.objects.create(user=sam, email=sam.email, verified=True)
    link = invited(crew, people, browser, sam.email)

    assert browser(sam).get(link, follow=True).status_code == 200
    assert not Membership.objects.filter(workspace=crew, user=sam).exists()


def test_who_it_is_for_finds_it_without_the_mail_and_declines(
    crew: Workspace, people: dict[str, User], browser: Browser
) -> None:
    sam = people["stranger"]
    EmailAddress.objects.create(user=sam, email=sam.email, verified=True)
    invited(crew, people, browser, sam.email)
    client, row = browser(sam), Invitation.objects.get()

    listed = text(client.get("/workspaces/"))
    answer = client.post(f"/workspaces/invitations/{row.pk}/decline/", follow=True)

    assert f"/workspaces/invitations/{row.pk}/" in listed
    assert "You have declined the invitation to Crew" in text(answer)
    assert not Invitation.objects.open(timezone.now()).exists()


def test_the_secret_is_in_no_log(
    crew: Workspace, people: dict[str, User], browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    link = invited(crew, people, browser, "guest@example.org")

    Client().get(link, follow=True)
    Client().get(link.replace("/join/", "/join/x"))

    secret = link.split("/")[3]
    assert "/workspaces/join/<str:key>/" in caplog.text
    # Django warns of what it did not find with the whole path; on the way into the log it loses its secret.
    told = logs.without_secrets(caplog.text)
    assert secret not in told
    assert "Not Found: /workspaces/join/[hidden]/" in told
    assert text(Client().get("/workspaces/join/none/")).count("This link leads nowhere") == 1


# ---- API --------------------------------------------------------------------------------------------------


def test_the_api_tells_of_workspaces_and_their_members(crew: Workspace, people: dict[str, User], api: Call) -> None:
    token = make_token(people["member"])
    rows = api("GET", "/workspaces", token=token).json()

    told = {(row["name"], row["personal"], row["role"]) for row in rows}
    assert told == {("ben", True, "owner"), ("Crew", False, "member")}
    found = next(row for row in rows if row["name"] == "Crew")
    assert (found["id"], found["closed"], Decimal(found["quota"]["cores"])) == (crew.pk, False, Decimal(8))
    members = api("GET", f"/workspaces/{crew.pk}/members", token=token).json()
    assert members == [
        {"user": "ada", "role": "owner"},
        {"user": "ben", "role": "member"},
        {"user": "max", "role": "manager"},
    ]
    assert api("GET", f"/workspaces/{crew.pk}/members", token=make_token(people["stranger"])).status_code == 404


def test_the_api_books_for_the_personal_workspace_unless_it_is_told_another(
    crew: Workspace, people: dict[str, User], api: Call
) -> None:
    work_in(people["owner"], crew)  # in the browser, which no script knows of
    body = {"service": "nginx", "hours": 1}

    own = api("POST", "/reservations", body).json()
    shared = api("POST", "/reservations", body | {"workspace": crew.pk}).json()
    listed = api("GET", f"/reservations?workspace={crew.pk}").json()

    assert (own["workspace"], own["booked_by"]) == (workspace_of(people["owner"]).pk, "ada")
    assert shared["workspace"] == crew.pk
    assert [row["id"] for row in listed] == [shared["id"]]
    assert api("POST", "/quotes", body | {"workspace": crew.pk}).json()["fits"] is True
    assert api("GET", "/billing/summary").json()["workspace"]["personal"] is True


def test_the_api_refuses_workspaces_of_others_and_closed_ones(
    crew: Workspace, people: dict[str, User], api: Call
) -> None:
    foreign, body = make_team("Foreign", owner=make_user()), {"service": "nginx", "hours": 1}
    closed = make_team("Old", owner=people["owner"], closed_at=timezone.now())

    for path in ("/reservations", "/quotes"):
        for number, sentence in ((foreign.pk, "not a member"), (closed.pk, "Old is closed"), (2**62, "not a member")):
            answer = api("POST", path, body | {"workspace": number})
            assert answer.status_code == 422
            assert sentence in answer.json()["errors"]["workspace"]
        for wrong in (0, -1, 2**64, "x"):
            answer = api("POST", path, body | {"workspace": wrong})
            assert (answer.status_code, list(answer.json()["errors"])) == (422, ["workspace"])
    assert api("GET", f"/reservations?workspace={foreign.pk}").status_code == 404
    assert not Reservation.objects.exists()


def test_a_key_that_was_used_before_there_was_a_choice_of_workspaces_is_still_good(owner: User, api: Call) -> None:
    from reservations.models import IdempotencyKey

    body = {"service": "nginx", "hours": 1}
    first = api("POST", "/reservations", body, **{"Idempotency-Key": "k"}).json()
    row = IdempotencyKey.objects.get()
    IdempotencyKey.objects.update(
        answer={name: value for name, value in (row.answer or {}).items() if name not in {"workspace", "booked_by"}}
    )

    again = api("POST", "/reservations", body, **{"Idempotency-Key": "k"})

    assert (again.status_code, again.json()) == (201, first)


# ---- somebody else was quicker ----------------------------------------------------------------------------


@pytest.mark.parametrize(("deed", "method"), [("remove", "get"), ("remove", "post"), ("role", "post")])
def test_who_was_removed_meanwhile_is_told_of_in_a_sentence(
    deed: str, method: str, crew: Workspace, people: dict[str, User], browser: Browser
) -> None:
    client, path = browser(people["owner"]), f"/workspaces/{crew.pk}/members/{people['member'].pk}/{deed}/"
    Membership.objects.filter(user=people["member"], workspace=crew).delete()

    answer = getattr(client, method)(path, {"role": "manager"}, follow=True)

    assert answer.status_code == 200
    assert "This person is not a member of Crew any more." in text(answer)
    assert "ben" not in text(answer)


def test_who_is_removed_in_this_instant_is_told_of_in_a_sentence(
    crew: Workspace, people: dict[str, User], browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the first look at them and whatever comes next."""
    look = team_views._member

    def removed_then(*asked: Any) -> Any:
        found = look(*asked)
        Membership.objects.filter(user=people["member"], workspace=crew).delete()
        return found

    monkeypatch.setattr(team_views, "_member", removed_then)

    answer = browser(people["owner"]).post(f"/workspaces/{crew.pk}/members/{people['member'].pk}/remove/", follow=True)

    assert "ben is not a member of Crew any more." in text(answer)
