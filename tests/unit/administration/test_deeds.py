"""What is done in the admin: it calls the actions, is in the audit log, and is refused with a sentence."""

from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.sessions.models import Session
from django.test import Client

from accounts.models import AuditEntry, User, Workspace
from compute.models import Node, ObservedContainer, StorageServer
from monitoring.models import Incident
from reservations.models import Event, Reservation, Service
from tests.factories import (
    make_gateway,
    make_node,
    make_reservation,
    make_service,
    make_storage,
    make_user,
    workspace_of,
)
from tests.unit.administration.conftest import desk_of
from tests.unit.administration.rows import make_rows

pytestmark = pytest.mark.django_db
RESERVATIONS, NODES = "/admin/reservations/reservation/", "/admin/compute/node/"
GATEWAY = {
    "name": "gate",
    "driver": "iptables",
    "public_address": "198.18.0.9",
    "private_subnet": "10.99.0.0/24",
    "ssh": "root@gate",
    "port_first": 20_000,
    "port_last": 29_999,
}


@pytest.fixture
def node() -> Node:
    return make_node("one")


@pytest.fixture
def reservation(node: Node) -> Reservation:
    return make_reservation(make_user("ada"))


def run(desk: Client, where: str, action: str, *rows: Any, **more: str) -> Any:
    return desk.post(where, {"action": action, ACTION_CHECKBOX_NAME: [row.pk for row in rows], **more}, follow=True)


def clerk(*permissions: str) -> Client:
    person = make_user("clerk", is_staff=True)
    person.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return desk_of(person)


def refuse_to_write(**row: Any) -> None:
    raise RuntimeError("the audit log is full")


# ---- reservations ---------------------------------------------------------------------------------------------------


def test_ending_a_reservation_asks_for_the_reason_first(desk: Client, reservation: Reservation) -> None:
    asked = run(desk, RESERVATIONS, "end_now", reservation)
    empty = run(desk, RESERVATIONS, "end_now", reservation, reason=" ")

    assert (asked.status_code, empty.status_code) == (200, 422)
    assert f"{reservation}" in asked.content.decode()
    assert "This field is required." in empty.content.decode()
    reservation.refresh_from_db()
    assert reservation.state == "booked"


def test_the_customer_reads_the_reason(desk: Client, boss: User, reservation: Reservation) -> None:
    answer = run(desk, RESERVATIONS, "end_now", reservation, reason="The room is rebuilt.")

    assert "is being taken down" in answer.content.decode()
    reservation.refresh_from_db()
    assert reservation.state == "ending"
    assert reservation.reason == "Ended by the administrator boss: The room is rebuilt."
    assert Event.objects.filter(reservation=reservation, text=reservation.reason, by="boss").exists()
    assert AuditEntry.objects.filter(
        action="reservation.end", target=f"reservation:{reservation.pk}", actor=boss
    ).exists()


def test_one_that_is_over_is_said_to_be(desk: Client, reservation: Reservation) -> None:
    run(desk, RESERVATIONS, "end_now", reservation, reason="once")

    assert "is over already" in run(desk, RESERVATIONS, "end_now", reservation, reason="twice").content.decode()
    assert AuditEntry.objects.filter(action="reservation.end").count() == 1


def test_who_may_only_look_at_reservations_ends_none(reservation: Reservation) -> None:
    desk = clerk("view_reservation")

    assert "end_now" not in desk.get(RESERVATIONS).content.decode()
    run(desk, RESERVATIONS, "end_now", reservation, reason="because")

    reservation.refresh_from_db()
    assert reservation.state == "booked"


# ---- machines -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("action", "state"), [("cordon", "cordoned"), ("uncordon", "active")], ids=str)
def test_nodes_are_cordoned_and_put_back(action: str, state: str, desk: Client, node: Node, boss: User) -> None:
    Node.objects.filter(pk=node.pk).update(state="draining" if action == "uncordon" else "active")

    run(desk, NODES, action, node)

    node.refresh_from_db()
    assert node.state == state
    assert AuditEntry.objects.get(target=f"node:{node.pk}", action=f"node.{state}").actor == boss


@pytest.mark.parametrize("action", ["uncordon", "drain"])
def test_a_removed_node_is_not_brought_back_by_a_button(action: str, desk: Client, node: Node) -> None:
    Node.objects.filter(pk=node.pk).update(state="removed")

    said = run(desk, NODES, action, node).content.decode()

    assert "manage.py add_node" in said
    assert Node.objects.get().state == "removed"


def test_draining_leads_to_what_would_become_of_the_reservations_and_changes_nothing(desk: Client, node: Node) -> None:
    answer = run(desk, NODES, "drain", node)

    assert answer.redirect_chain == [("/monitor/nodes/one/drain/", 302)]
    assert answer.status_code == 200
    assert Node.objects.get().state == "active"
    assert not AuditEntry.objects.filter(action="node.draining").exists()


def test_many_nodes_are_not_drained_at_once(desk: Client, node: Node) -> None:
    said = run(desk, NODES, "drain", node, make_node("two")).content.decode()

    assert "Drain one node at a time" in said
    assert set(Node.objects.values_list("state", flat=True)) == {"active"}


@pytest.mark.parametrize("action", ["cordon", "drain"])
def test_who_may_only_look_at_nodes_cordons_and_drains_none(action: str, node: Node) -> None:
    answer = run(clerk("view_node"), NODES, action, node)

    node.refresh_from_db()
    assert node.state == "active"
    assert "/monitor/nodes/one/drain/" not in str(answer.redirect_chain)


def test_what_the_probes_write_is_not_written_on_the_page(desk: Client, node: Node) -> None:
    form = {"address": "10.99.0.77", "engine_url": node.engine_url, "ssh": "", "gateway": node.gateway_id}
    form |= {"ram_mib": 1024, "cores": "2", "name": "other", "state": "removed", "health": "lost"}

    assert desk.post(f"{NODES}{node.pk}/change/", form).status_code == 302

    node.refresh_from_db()
    assert (node.address, node.ram_mib) == ("10.99.0.77", 1024)
    assert (node.name, node.state, node.health) == ("one", "active", "ok")


# ---- people ---------------------------------------------------------------------------------------------------------


def test_somebody_who_is_locked_out_gets_in_again(desk: Client) -> None:
    make_rows(1)
    user = User.objects.get(username__startswith="person")

    run(desk, "/admin/accounts/user/", "reset_second_factors", user)

    assert not Authenticator.objects.filter(user=user).exists()
    assert AuditEntry.objects.filter(action="mfa.reset", target=f"user:{user.pk}").exists()


def test_a_session_is_ended(desk: Client) -> None:
    make_rows(1)
    session = UserSession.objects.get(user__username__startswith="person")

    run(desk, "/admin/usersessions/usersession/", "end", session)

    assert not Session.objects.filter(pk=session.session_key).exists()
    assert AuditEntry.objects.filter(action="session.end", target=f"user:{session.user_id}").exists()


@pytest.mark.parametrize(
    ("where", "action"),
    [("accounts/user", "reset_second_factors"), ("usersessions/usersession", "end"), ("accounts/apitoken", "revoke")],
)
def test_only_an_admin_does_that(where: str, action: str) -> None:
    make_rows(1)
    desk = clerk("view_user", "change_user", "view_usersession", "view_apitoken")
    user = User.objects.get(username__startswith="person")
    rows = {"accounts/user": user, "usersessions/usersession": UserSession.objects.get(user=user)}

    said = run(desk, f"/admin/{where}/", action, rows.get(where) or user.api_tokens.get()).content.decode()

    assert "Only an admin can" in said
    assert Authenticator.objects.filter(user=user).exists()
    assert UserSession.objects.filter(user=user).exists()
    assert user.api_tokens.get().revoked_at is None


def test_a_password_that_is_set_here_is_in_the_audit_log(desk: Client) -> None:
    user = make_user("ada")
    form = {"password1": "a new long password", "password2": "a new long password", "usable_password": "true"}

    assert desk.post(f"/admin/accounts/user/{user.pk}/password/", form).status_code == 302

    user.refresh_from_db()
    assert user.check_password("a new long password")
    row = AuditEntry.objects.get(action="user.change", target=f"user:{user.pk}")
    assert "a new long password" not in str(row.data)


# ---- what is changed is in the audit log, or is not changed ---------------------------------------------------------


def test_a_change_is_in_djangos_log_and_in_ours_and_on_the_page_of_its_history(desk: Client, boss: User) -> None:
    gateway = make_gateway()

    desk.post(f"/admin/compute/gateway/{gateway.pk}/change/", GATEWAY)

    row = AuditEntry.objects.get(target=f"gateway:{gateway.pk}")
    assert (row.action, row.actor, row.data["what"]) == ("gateway.change", boss, "Changed Public address.")
    assert LogEntry.objects.get().object_id == str(gateway.pk)
    history = desk.get(f"/admin/compute/gateway/{gateway.pk}/history/").content.decode()
    assert "gateway.change" in history
    assert history.count("Changed Public address.") == 2


def test_adding_and_deleting_are_too(desk: Client) -> None:
    desk.post("/admin/reservations/size/add/", {"slug": "huge", "name": "Huge", "cores": "8", "ram_mib": 8192})
    pk = AuditEntry.objects.get(action="size.add").target.partition(":")[2]
    desk.post(f"/admin/reservations/size/{pk}/delete/", {"post": "yes"})

    assert AuditEntry.objects.get(action="size.delete").data["name"] == "Huge"


@pytest.mark.parametrize("verb", ["change", "delete"])
def test_without_its_audit_row_nothing_is_written(verb: str, desk: Client, settings: Any) -> None:
    server = make_storage()
    settings.BERTH_AUDIT_FUNCTION = "tests.unit.administration.test_deeds.refuse_to_write"
    form = {
        "name": "store",
        "address": "10.0.0.1",
        "account": "berth",
        "path": "/volumes",
        "capacity_gb": 5,
        "post": "yes",
    }

    with pytest.raises(RuntimeError, match="audit log is full"):
        desk.post(f"/admin/compute/storageserver/{server.pk}/{verb}/", form)

    assert StorageServer.objects.get().address == server.address
    assert not LogEntry.objects.exists()


def test_the_audit_log_is_shown_to_those_who_may_read_it() -> None:
    gateway = make_gateway()
    desk_of(make_user("boss", is_staff=True, is_superuser=True)).post(
        f"/admin/compute/gateway/{gateway.pk}/change/", GATEWAY
    )

    history = clerk("view_gateway").get(f"/admin/compute/gateway/{gateway.pk}/history/").content.decode()

    assert "Changed Public address." in history
    assert "gateway.change" not in history


# ---- deleting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["get", "post"])
def test_what_something_needs_is_not_deleted_and_one_is_told_what_to_do(
    method: str, desk: Client, reservation: Reservation
) -> None:
    answer = getattr(desk, method)(
        f"/admin/reservations/service/{reservation.service_id}/delete/", {"post": "yes"}, follow=True
    )

    said = answer.content.decode()
    assert "nginx cannot be deleted: 1 other row needs it. Switch it off instead" in said
    assert Service.objects.filter(pk=reservation.service_id).exists()


def test_a_person_with_a_workspace_is_switched_off_instead(desk: Client) -> None:
    user = make_user("ada")

    said = desk.post(f"/admin/accounts/user/{user.pk}/delete/", {"post": "yes"}, follow=True).content.decode()

    assert "ada cannot be deleted" in said
    assert Workspace.objects.filter(pk=workspace_of(user).pk).exists()


def test_what_nothing_needs_is_deleted(desk: Client) -> None:
    service = make_service("lonely")

    assert desk.post(f"/admin/reservations/service/{service.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not Service.objects.filter(pk=service.pk).exists()


def test_many_rows_are_not_deleted_at_once(desk: Client) -> None:
    service = make_service("lonely")

    run(desk, "/admin/reservations/service/", "delete_selected", service, post="yes")

    assert Service.objects.filter(pk=service.pk).exists()


# ---- links to the monitor -------------------------------------------------------------------------------------------


def test_a_node_leads_to_its_page_of_the_monitor(desk: Client, node: Node) -> None:
    assert 'href="/monitor/' in desk.get(f"{NODES}{node.pk}/change/").content.decode()
    assert 'href="/monitor/' in desk.get(NODES).content.decode()


def test_what_is_booked_and_what_was_seen_lead_to_the_containers_of_the_monitor(desk: Client) -> None:
    make_rows(1)
    seen, booked = ObservedContainer.objects.get(), Reservation.objects.get()

    page = desk.get(f"{RESERVATIONS}{booked.pk}/change/").content.decode()
    observed = desk.get(f"/admin/compute/observedcontainer/{seen.pk}/change/").content.decode()

    assert f'href="/monitor/containers/?q=berth-{booked.pk}-"' in page
    assert f'href="/monitor/containers/{seen.pk}/"' in observed


def test_an_incident_is_acknowledged_while_it_is_open(desk: Client, boss: User) -> None:
    make_rows(2)
    mine, over = Incident.objects.order_by("pk")
    Incident.objects.update(acknowledged_by=None, opened_at=mine.first_seen_at)
    Incident.objects.filter(pk=over.pk).update(closed_at=mine.first_seen_at)

    said = run(desk, "/admin/monitoring/incident/", "acknowledge", mine, over).content.decode()

    assert "It is over already." in said
    assert list(Incident.objects.filter(acknowledged_by=boss)) == [mine]
    assert AuditEntry.objects.filter(action="incident.acknowledge", actor=boss).count() == 1


@pytest.mark.parametrize(("permission", "may"), [("change_incident", True), ("change_node", False)])
def test_who_acknowledges_has_the_permission_that_the_monitor_asks_for(permission: str, may: bool) -> None:
    make_rows(1)
    incident = Incident.objects.get()
    Incident.objects.update(acknowledged_by=None, opened_at=incident.first_seen_at)
    desk = clerk("view_incident", permission)

    page = desk.post(f"/monitor/incidents/{incident.pk}/acknowledge/").status_code == 302
    Incident.objects.update(acknowledged_by=None, acknowledged_at=None)
    run(desk, "/admin/monitoring/incident/", "acknowledge", incident)

    incident.refresh_from_db()
    assert page is may
    assert (incident.acknowledged_by is not None) is may
