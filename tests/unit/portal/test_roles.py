"""What owner, manager, member, stranger, staff and nobody may do with a shared workspace's reservations and volumes.

Whoever is no member is told that there is no such thing; a member who may only look is told who may do it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Membership, User, Workspace
from accounts.permissions import NotAllowed
from compute.models import Node, Volume
from reservations import actions
from reservations.models import Reservation, WorkspaceVolume
from reservations.permissions import actionable, user_can_act
from tests.factories import (
    HOUR,
    make_booking,
    make_profiles,
    make_reservation,
    make_service,
    make_storage,
    make_team,
    make_token,
    make_user,
    work_in,
)
from tests.unit.portal.conftest import Call

pytestmark = pytest.mark.django_db
Browser = Callable[..., Client]
WHY_NOT = "mia and the owners and managers of Crew may do this"


@dataclass
class Crew:
    """Olga owns it, Max manages it, Mia booked, Ben is a member, too; Sam is a stranger and root is staff."""

    workspace: Workspace
    people: dict[str, User]
    reservation: Reservation
    volume: WorkspaceVolume
    tokens: dict[str, str] = field(default_factory=dict)

    def token(self, who: str) -> str | None:
        return self.tokens.setdefault(who, make_token(self.people[who])) if who in self.people else None


@pytest.fixture
def crew(node: Node) -> Crew:
    make_profiles()
    make_service()
    names = {"owner": "olga", "manager": "max", "booker": "mia", "member": "ben", "stranger": "sam"}
    people = {who: make_user(name) for who, name in names.items()}
    people["staff"] = make_user("root", is_staff=True, is_superuser=True)
    members = [people["booker"], people["member"]]
    workspace = make_team("Crew", owner=people["owner"], manager=people["manager"], member=members)
    reservation = make_reservation(people["booker"], now=timezone.now(), workspace=workspace, name="shared one")
    image = Volume.objects.create(size_gb=1, kept=True, server=make_storage())
    volume = WorkspaceVolume.objects.create(workspace=workspace, name="crew volume", volume=image)
    return Crew(workspace, people, reservation, volume)


ACTS = ["owner", "manager", "booker"]
DEEDS = ["delete", "stop", "start", "extend"]
SEES = {"owner": 200, "manager": 200, "booker": 200, "member": 200, "stranger": 404, "staff": 404}


@pytest.mark.parametrize(("who", "status"), SEES.items())
def test_all_members_see_it_and_nobody_else(who: str, status: int, crew: Crew, browser: Browser, api: Call) -> None:
    page = browser(crew.people[who]).get(f"/reservations/{crew.reservation.pk}/")
    listed = browser(crew.people[who]).get("/reservations/")
    answer = api("GET", f"/reservations/{crew.reservation.pk}", token=crew.token(who))

    assert (page.status_code, answer.status_code) == (status, status)
    assert ("shared one" in listed.content.decode()) is (status == 200)


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("who", ACTS)
def test_who_leads_and_who_booked_it_act_on_it(who: str, deed: str, crew: Crew, browser: Browser) -> None:
    answer = browser(crew.people[who]).post(f"/reservations/{crew.reservation.pk}/{deed}/", {"minutes": "60"})

    assert answer.status_code == 302


@pytest.mark.parametrize("deed", DEEDS)
def test_another_member_is_told_who_may_do_it(deed: str, crew: Crew, browser: Browser) -> None:
    answer = browser(crew.people["member"]).post(f"/reservations/{crew.reservation.pk}/{deed}/", {"minutes": "60"})

    assert answer.status_code == 403
    assert WHY_NOT in answer.content.decode()
    assert untouched(crew)


@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("who", ["stranger", "staff"])
def test_for_a_stranger_there_is_no_such_thing(who: str, deed: str, crew: Crew, browser: Browser) -> None:
    answer = browser(crew.people[who]).post(f"/reservations/{crew.reservation.pk}/{deed}/", {"minutes": "60"})

    assert answer.status_code == 404
    assert untouched(crew)


def untouched(crew: Crew) -> bool:
    row = Reservation.objects.get(pk=crew.reservation.pk)
    return (row.state, row.wish, row.end) == ("booked", "run", crew.reservation.end)


@pytest.mark.parametrize(("who", "status"), {**dict.fromkeys(ACTS, 202), "member": 403, "stranger": 404}.items())
def test_the_api_deletes_for_who_may(who: str, status: int, crew: Crew, api: Call) -> None:
    answer = api("DELETE", f"/reservations/{crew.reservation.pk}", token=crew.token(who))

    assert answer.status_code == status
    if status == 403:
        assert (answer.json()["code"], WHY_NOT in answer.json()["detail"]) == ("not_allowed", True)
    assert untouched(crew) is (status != 202)


@pytest.mark.parametrize(("who", "status"), {**dict.fromkeys(ACTS, 200), "member": 403, "stranger": 404}.items())
def test_the_api_extends_for_who_may(who: str, status: int, crew: Crew, api: Call) -> None:
    path = f"/reservations/{crew.reservation.pk}/extend"

    assert api("POST", path, {"hours": 1}, token=crew.token(who)).status_code == status


@pytest.mark.parametrize(("who", "told"), {**dict.fromkeys(ACTS, True), "member": False}.items())
def test_credentials_are_for_who_may_act(who: str, told: bool, crew: Crew, browser: Browser, api: Call) -> None:
    password = crew.reservation.credentials["password"]
    number, client = crew.reservation.pk, browser(crew.people[who])

    pages = [client.get(f"/reservations/{number}/{part}").content.decode() for part in ("", "state/")]
    shown = client.post(f"/reservations/{number}/credentials/")
    answers = [api("GET", path, token=crew.token(who)).json() for path in (f"/reservations/{number}", "/reservations")]

    assert (shown.status_code, password in shown.content.decode()) == ((200, True) if told else (403, False))
    assert [password in page for page in pages] == [False, False]
    assert ["delete-link" in page for page in pages] == [told, told]
    assert [bool(row["credentials"]) for row in (answers[0], answers[1][0])] == [told, told]
    assert [bool(row["connect"]) for row in (answers[0], answers[1][0])] == [told, told]


def test_a_token_of_who_was_removed_reaches_nothing_any_more(crew: Crew, api: Call) -> None:
    work_in(crew.people["booker"], crew.workspace)
    number, body = crew.reservation.pk, {"service": "nginx", "hours": 1}
    once = {"Idempotency-Key": "once"}
    first = api("POST", "/reservations", body, token=crew.token("booker"), **once)
    Reservation.objects.filter(pk=first.json()["id"]).update(workspace=crew.workspace)
    Membership.objects.filter(user=crew.people["booker"], workspace=crew.workspace).delete()

    answers = [
        api("GET", f"/reservations/{number}", token=crew.token("booker")),
        api("DELETE", f"/reservations/{number}", token=crew.token("booker")),
        api("POST", f"/reservations/{number}/extend", {"hours": 1}, token=crew.token("booker")),
        api("POST", "/reservations", body, token=crew.token("booker"), **once),
    ]

    assert [answer.status_code for answer in answers] == [404, 404, 404, 404]
    assert api("GET", "/reservations", token=crew.token("booker")).json() == []
    assert Reservation.objects.get(pk=number).workspace == crew.workspace


def test_who_was_removed_in_this_instant_books_nothing_for_it(crew: Crew) -> None:
    Membership.objects.filter(user=crew.people["member"], workspace=crew.workspace).delete()

    with pytest.raises(NotAllowed, match="not a member"):
        book(crew, "member")


def test_nothing_is_booked_for_a_workspace_that_was_closed_in_this_instant(crew: Crew) -> None:
    Workspace.objects.filter(pk=crew.workspace.pk).update(closed_at=timezone.now())

    with pytest.raises(NotAllowed, match="Crew is closed"):
        book(crew, "owner")
    assert Reservation.objects.count() == 1


def book(crew: Crew, who: str) -> Reservation:
    wanted = make_booking(length=HOUR)
    return actions.book(booking=wanted, workspace=crew.workspace, by=crew.people[who], now=timezone.now())[0]


# ---- kept volumes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("who", "status"), {"owner": 302, "manager": 302, "member": 403, "stranger": 404}.items())
def test_who_leads_deletes_kept_volumes(who: str, status: int, crew: Crew, browser: Browser) -> None:
    answer = browser(crew.people[who]).post(f"/reservations/volumes/{crew.volume.pk}/delete/")

    assert answer.status_code == status
    volume = WorkspaceVolume.objects.get(pk=crew.volume.pk)
    assert (volume.deleted_at is not None) is (status == 302)


@pytest.mark.parametrize(("others", "status"), [(False, 202), (True, 403)])
def test_a_member_deletes_a_volume_that_nobody_else_has_used(others: bool, status: int, crew: Crew, api: Call) -> None:
    bookers = ["member", "booker"] if others else ["member"]
    for who in bookers:
        ended = book(crew, who)
        Reservation.objects.filter(pk=ended.pk).update(state="ended", kept_volume=crew.volume)

    answer = api("DELETE", f"/volumes/{crew.volume.pk}", token=crew.token("member"))

    assert answer.status_code == status
    if others:
        assert "owners and managers of Crew may delete it" in answer.json()["detail"]


# ---- the rules themselves ---------------------------------------------------------------------------------


def test_the_pair_and_the_queryset_say_the_same(crew: Crew) -> None:
    for user in crew.people.values():
        found = set(Reservation.objects.actionable_by(user).values_list("pk", flat=True))
        assert found == {row.pk for row in Reservation.objects.all() if user_can_act(user, row)}
        assert actionable(user, Reservation.objects.all()) == found


def test_of_many_reservations_it_is_asked_once(crew: Crew) -> None:
    rows = list(Reservation.objects.all()) * 50

    with CaptureQueriesContext(
        connection,
    ) as asked:
        actionable(crew.people["member"], rows)

    assert len(asked) == 1


def test_what_somebody_booked_before_they_left_is_the_workspaces(crew: Crew, browser: Browser) -> None:
    User.objects.filter(pk=crew.people["booker"].pk).update(is_active=False)
    Membership.objects.filter(user=crew.people["booker"]).delete()
    Reservation.objects.update(created_by=None)

    manager = browser(crew.people["manager"])
    refused: Any = browser(crew.people["member"]).post(f"/reservations/{crew.reservation.pk}/delete/")

    assert "The owners and managers of Crew may do this" in refused.content.decode()
    assert manager.post(f"/reservations/{crew.reservation.pk}/delete/").status_code == 302
