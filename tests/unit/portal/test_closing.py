"""Deleting an account: what goes, what stays for the books, and when it is refused."""

import smtplib
import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession
from django.apps import apps
from django.core import mail
from django.core.mail import EmailMessage
from django.core.management import CommandError, call_command
from django.db import models
from django.test import Client
from django.utils import timezone

from accounts import actions, audit, closing, farewell, mailing, notifying, teams
from accounts.closing import CannotClose, close_account
from accounts.models import (
    ApiToken,
    AuditEntry,
    Farewell,
    Invitation,
    Membership,
    Notice,
    Notification,
    NotificationChoice,
    SshKey,
    User,
    Workspace,
)
from billing import invoices, spending
from billing.accounts import account_of
from billing.models import BillingAccount, Invoice
from compute import guarding
from compute.models import Node, Volume
from reservations import calendar_feed, doctor, leftovers, offering, waiting
from reservations.models import IdempotencyKey, Reservation, UsagePeriod, WaitingEntry, WorkspaceVolume
from reservations.states import State
from tests.factories import (
    NOW,
    PASSWORD,
    at,
    make_booking,
    make_reservation,
    make_service,
    make_storage,
    make_team,
    make_token,
    make_user,
    profile,
    workspace_of,
)
from tests.unit.conftest import Machines

pytestmark = pytest.mark.django_db
PAGE = "/accounts/delete/"

# Every column that names a user, and what becomes of its rows when the account is deleted.
EMPTIED = {
    "account.EmailAddress.user",
    "accounts.ApiToken.user",
    "accounts.Invitation.accepted_by",  # those of workspaces that stay, too: they have the address
    "accounts.Membership.user",
    "accounts.Notification.user",
    "accounts.NotificationChoice.user",
    "accounts.SshKey.user",
    "accounts.User_groups.user",
    "accounts.User_user_permissions.user",
    "mfa.Authenticator.user",
    "reservations.IdempotencyKey.user",
    "socialaccount.SocialAccount.user",
    "usersessions.UserSession.user",
}
KEPT = {
    "accounts.AuditEntry.actor",  # who did it
    "accounts.Invitation.invited_by",  # of a workspace that stays
    "accounts.Workspace.personal_of",  # whose bills they are
    "admin.LogEntry.user",  # who did it
    "billing.Payment.recorded_by",  # books
    "monitoring.Incident.acknowledged_by",  # who did it
    "reservations.Reservation.created_by",  # books, and what a shared workspace has
    "reservations.WaitingEntry.created_by",
}


@pytest.fixture
def ada(node: Node) -> User:
    return make_user("ada", first_name="Ada", last_name="Lovelace")


def gone(user: User) -> User:
    return User.objects.get(pk=user.pk)


def delete(user: User, now: Any = NOW) -> closing.Plan:
    return close_account(user=user, by=user, now=now)


def fill(user: User) -> None:
    """A row in every table that is emptied."""
    make_token(user)
    SshKey.objects.create(user=user, name="laptop", public_key="ssh-ed25519 AAAA", fingerprint="SHA256:x")
    Authenticator.objects.create(user=user, type="totp", data={})
    SocialAccount.objects.create(user=user, provider="oidc", uid="1")
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    NotificationChoice.objects.create(user=user, kind=Notice.STARTED)
    notifying.notify(user=user, kind=Notice.STARTED, key="x", title="x", text="", path="/", now=NOW)
    group = apps.get_model("auth.Group").objects.create(name="g")
    user.groups.add(group)
    user.user_permissions.add(apps.get_model("auth.Permission").objects.first())
    team = make_team("Others", owner=make_user("bob"), member=user)
    Invitation.objects.create(
        workspace=team,
        email=user.email,
        digest="1",
        created_at=NOW,
        expires_at=at(1),
        accepted_by=user,
        accepted_at=NOW,
    )
    row = make_reservation(user)
    IdempotencyKey.objects.create(user=user, key="k", fingerprint="f", reservation=row)
    UserSession.objects.create(user=user, session_key="s", ip="127.0.0.1", user_agent="x")


def columns() -> dict[str, tuple[type[models.Model], str]]:
    found = {}
    for model in apps.get_models(include_auto_created=True):
        for field in model._meta.get_fields():
            if isinstance(field, models.ForeignKey) and field.related_model is User:
                found[f"{model._meta.app_label}.{model._meta.object_name}.{field.name}"] = (model, field.name)
    return found


# ---- what goes and what stays -----------------------------------------------------------------------------


def test_every_column_that_names_a_user_is_known_here() -> None:
    """A new one needs a decision: does it go with the account (accounts/closing.py), or does it stay, and why?"""
    assert set(columns()) == EMPTIED | KEPT


def test_what_is_to_go_is_gone(ada: User) -> None:
    fill(ada)
    before = {name for name, (model, field) in columns().items() if model._default_manager.filter(**{field: ada})}
    assert before >= EMPTIED

    delete(ada)

    after = {name for name, (model, field) in columns().items() if model._default_manager.filter(**{field: ada})}
    assert after & EMPTIED == set()
    assert after <= KEPT


def test_the_row_stays_without_a_name_and_the_name_is_free(ada: User) -> None:
    delete(ada)

    row = gone(ada)
    assert (row.username, row.email, row.first_name, row.last_name) == (f"deleted-{row.pk}", "", "", "")
    assert (row.is_active, row.closed_at, row.has_usable_password(), row.calendar_key) == (False, NOW, False, None)
    assert workspace_of(row).closed_at == NOW
    assert workspace_of(row).name == f"deleted-{row.pk}"
    assert make_user("ada").pk != row.pk


def test_somebody_who_signed_up_as_the_name_to_be_is_not_in_the_way(ada: User) -> None:
    make_user(f"deleted-{ada.pk}")

    delete(ada)

    assert gone(ada).username.startswith(f"deleted-{ada.pk}-")


def test_the_audit_log_says_who_it_was(ada: User) -> None:
    delete(ada)

    entry = AuditEntry.objects.get(action="user.close")
    assert (entry.actor_id, entry.actor_name, entry.data["name"]) == (ada.pk, "ada", "ada")


@pytest.mark.parametrize("running", [False, True], ids=["booked", "running"])
def test_a_reservation_ends_and_nothing_is_left_of_it(ada: User, machines: Machines, running: bool) -> None:
    row = make_reservation(ada)
    if running:
        assert machines.reconcile(row).state == State.RUNNING
        machines.clock.forward(minutes=10)

    delete(ada, machines.clock())

    assert Reservation.objects.get().state == State.ENDING
    assert machines.settle(row).state == State.ENDED
    assert machines.traces() == []
    if running:
        during = UsagePeriod.objects.get().during
        assert during.upper - during.lower == timedelta(minutes=10)


def test_waiting_entries_and_offers_are_given_up(ada: User, machines: Machines) -> None:
    team = make_team("Others", owner=make_user("bob"), member=ada)
    for workspace in (workspace_of(ada), team):
        waiting.join(booking=make_booking(), workspace=workspace, by=ada, now=NOW)
    assert offering.offer_next(NOW) == 2

    delete(ada)

    assert set(WaitingEntry.objects.values_list("outcome", "reason")) == {("cancelled", "The account was deleted.")}
    assert set(Reservation.objects.values_list("state", flat=True)) == {State.ENDING}
    assert offering.look_after(at(0.1)) == 0


def keeps(ada: User, machines: Machines, node: Node) -> Reservation:
    machines.with_ssh = True
    make_storage()
    row = make_reservation(ada, service=make_service(mount_path="/data"), storage=profile("C3"))
    assert machines.reconcile(row).state == State.RUNNING
    return row


def test_a_kept_volume_that_nobody_uses_is_removed(ada: User, machines: Machines, node: Node) -> None:
    row = keeps(ada, machines, node)
    machines.clock.now = row.end
    machines.settle(row)

    delete(ada, machines.clock())

    assert Volume.objects.get().state == Volume.State.REMOVING
    leftovers.remove_deleted()
    assert (Volume.objects.get().state, machines.images_on_server) == (Volume.State.REMOVED, set())


def test_a_kept_volume_in_use_is_removed_once_its_machine_has_let_it_go(
    ada: User, machines: Machines, node: Node
) -> None:
    row = keeps(ada, machines, node)

    delete(ada)

    leftovers.remove_deleted()
    assert machines.images_on_server  # a machine still holds it
    assert Volume.objects.get().state == Volume.State.ATTACHED  # and who looks at the machines knows that it may
    assert WorkspaceVolume.objects.get().deleted_at == NOW  # and it costs nothing any more
    machines.settle(row)
    leftovers.remove_deleted()
    assert (Volume.objects.get().state, machines.images_on_server) == (Volume.State.REMOVED, set())
    assert machines.traces() == []


def test_a_shared_workspace_is_left_and_what_was_booked_there_runs_on(ada: User, machines: Machines) -> None:
    team = make_team("Crew", owner=make_user("bob"), member=ada)
    row = make_reservation(ada, workspace=team)

    delete(ada)

    assert Reservation.objects.get(pk=row.pk).state == State.BOOKED
    assert list(Membership.objects.filter(workspace=team).values_list("user__username", flat=True)) == ["bob"]
    assert Workspace.objects.get(pk=team.pk).closed_at is None


def test_a_shared_workspace_that_nobody_else_is_in_closes_with_it(ada: User, machines: Machines) -> None:
    team = make_team("Mine", owner=ada)
    make_reservation(ada, workspace=team)

    delete(ada)

    team.refresh_from_db()
    assert (team.closed_at, team.name) == (NOW, "Mine")
    assert Reservation.objects.get().state == State.ENDING


def test_invitations_to_an_address_that_was_never_proven_are_not_touched(ada: User, settings: Any) -> None:
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    EmailAddress.objects.create(user=ada, email="eve@example.org", verified=False)
    team = make_team("Crew", owner=make_user("bob"))
    Invitation.objects.create(workspace=team, email="eve@example.org", digest="1", created_at=NOW, expires_at=at(1))

    delete(ada)

    assert Invitation.objects.get().email == "eve@example.org"


def test_one_mail_says_goodbye_and_none_comes_after_it(ada: User, machines: Machines) -> None:
    row = make_reservation(ada)
    machines.reconcile(row)
    delete(ada)
    machines.settle(row)
    assert [farewell.mail_due(lambda: at(1)), farewell.mail_due(lambda: at(2))] == [1, 0]
    mailing.mail_due(lambda: at(1))

    assert [(message.to, message.subject) for message in mail.outbox if "deleted" in message.subject] == [
        (["ada@example.org"], "[Berth] Your account is deleted")
    ]
    assert len(mail.outbox) == 1
    assert "1 reservation: " in mail.outbox[0].body
    assert not Notification.objects.exists()
    assert not Farewell.objects.exists()  # nobody's address is kept any longer


@pytest.mark.parametrize(
    "problem",
    [ConnectionRefusedError("no server"), smtplib.SMTPRecipientsRefused({"ada@example.org": (450, b"later")})],
    ids=["no server", "refused"],
)
def test_the_last_mail_is_tried_again_and_given_up_after_three_days(
    problem: Exception, ada: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    delete(ada)
    send = EmailMessage.send

    def away(_: EmailMessage) -> int:
        raise problem

    monkeypatch.setattr(EmailMessage, "send", away)
    assert farewell.mail_due(lambda: NOW) == 0
    monkeypatch.setattr(EmailMessage, "send", send)
    early = farewell.mail_due(lambda: NOW + timedelta(seconds=9))
    again = farewell.mail_due(lambda: NOW + timedelta(seconds=11))

    assert (early, again, len(mail.outbox)) == (0, 1, 1)
    assert "could not be mailed" in caplog.text
    assert "ada@example.org" not in caplog.text

    farewell.write(email="ada@example.org", text="Farewell.", now=NOW)
    assert farewell.mail_due(lambda: NOW + timedelta(days=3, seconds=1)) == 0
    assert not Farewell.objects.exists()


def test_the_doctor_finds_nothing_afterwards(ada: User, machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarding, "troubles", lambda now: iter([]))
    row = make_reservation(ada)
    machines.reconcile(row)

    delete(ada)
    machines.settle(row)

    assert [found for found in doctor.examine(machines.clock()) if found.promise] == []


# ---- the books --------------------------------------------------------------------------------------------


def test_the_running_month_is_invoiced_to_whom_it_was_served(
    ada: User, machines: Machines, staff: User, browser: Callable[[User], Client]
) -> None:
    row = make_reservation(ada)
    machines.reconcile(row)
    machines.clock.forward(minutes=30)
    workspace = workspace_of(ada)

    done = delete(ada, machines.clock())
    machines.settle(row)

    assert any("not invoiced yet" in fate.title for fate in done.staying)
    (invoice,) = invoices.issue_due(at(24 * 40))
    assert invoice.recipient == "ada"
    assert invoice.total > Decimal(0)
    assert spending.recipients(account_of(workspace.pk)) == ["ada@example.org"]
    page = browser(staff).get(f"/admin/billing/invoice/{invoice.pk}/change/")
    assert page.status_code == 200
    assert invoice.number in page.content.decode()
    call_command("audit_ledger")


def test_the_address_that_somebody_wrote_for_bills_stays(ada: User, machines: Machines) -> None:
    account = account_of(workspace_of(ada).pk)
    account.recipient, account.address, account.email = "Ada Ltd", "1 Row\nLondon", "bills@example.org"
    account.save()

    delete(ada)

    row = BillingAccount.objects.get()
    assert (row.recipient, row.address, row.email) == ("Ada Ltd", "1 Row\nLondon", "bills@example.org")


def test_who_owes_nothing_leaves_no_address(ada: User) -> None:
    make_reservation(ada, now=NOW)

    delete(ada)

    assert set(BillingAccount.objects.values_list("email", flat=True)) == {""}
    assert not Invoice.objects.exists()


# ---- nobody gets in by it ---------------------------------------------------------------------------------


def test_a_password_a_session_a_token_and_the_calendar_open_nothing(
    ada: User, browser: Callable[[User], Client]
) -> None:
    calendar_feed.open_(user=ada)
    ada.refresh_from_db()
    assert ada.calendar_key
    secret, token, client = calendar_feed.secret_of(ada.calendar_key), make_token(ada), browser(ada)
    assert Client().get("/api/v1/reservations", headers={"Authorization": f"Bearer {token}"}).status_code == 200

    delete(ada)

    for name in ("ada", "ada@example.org", f"deleted-{ada.pk}"):
        assert Client().post("/accounts/login/", {"login": name, "password": PASSWORD}).status_code == 200
    assert client.get("/reservations/").status_code == 302
    assert Client().get("/api/v1/reservations", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert calendar_feed.owner_of(secret) is None


def test_a_password_reset_is_mailed_to_nobody(ada: User) -> None:
    EmailAddress.objects.create(user=ada, email=ada.email, verified=True, primary=True)
    delete(ada)
    mail.outbox.clear()

    Client().post("/accounts/password/reset/", {"email": "ada@example.org"})

    assert not any("/password/reset/key/" in str(message.body) for message in mail.outbox)


def test_nothing_is_made_for_a_deleted_account_by_a_request_that_was_under_way(ada: User) -> None:
    delete(ada)

    with pytest.raises(teams.TeamProblem, match="deleted"):
        teams.create_workspace(name="New", by=ada)
    with pytest.raises(actions.BadToken, match="deleted"):
        actions.create_token(user=ada, name="x", scopes=["read"], lifetime=timedelta(days=1), now=NOW, by=ada)


# ---- refused ----------------------------------------------------------------------------------------------


def test_the_sole_owner_of_a_workspace_with_others_is_told_which(ada: User, browser: Callable[[User], Client]) -> None:
    team = make_team("Crew", owner=ada, member=make_user("bob"))

    with pytest.raises(CannotClose, match="only owner of Crew"):
        delete(ada)

    page = browser(ada).get(PAGE).content.decode()
    assert "only owner of Crew" in page
    assert f"/workspaces/{team.pk}/" in page
    assert gone(ada).is_active


def test_others_who_cannot_log_in_any_more_are_not_in_the_way(ada: User) -> None:
    make_team("Crew", owner=ada, member=make_user("bob", is_active=False))

    delete(ada)

    assert Workspace.objects.get(name="Crew").closed_at == NOW


def test_the_last_admin_stays(ada: User) -> None:
    User.objects.filter(pk=ada.pk).update(is_superuser=True)
    make_user("off", is_superuser=True, is_active=False)
    ada.refresh_from_db()

    with pytest.raises(CannotClose, match="last admin"):
        delete(ada)

    make_user("root", is_superuser=True)
    delete(ada)
    assert not gone(ada).is_superuser


def test_a_second_time_is_refused_with_a_sentence(ada: User) -> None:
    delete(ada)

    with pytest.raises(CannotClose, match="deleted already"):
        delete(ada)
    assert AuditEntry.objects.filter(action="user.close").count() == 1


def test_a_fault_in_the_midst_leaves_everything_as_it_was(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(ada)

    def fail(*args: Any) -> None:
        raise RuntimeError("the power went")

    monkeypatch.setattr(closing, "_forget_person", fail)
    with pytest.raises(RuntimeError):
        delete(ada)

    assert gone(ada).username == "ada"
    assert Reservation.objects.get().state == State.BOOKED
    assert ApiToken.objects.filter(user=ada).exists()
    assert not Farewell.objects.exists()


# ---- the page ---------------------------------------------------------------------------------------------


def test_the_page_tells_what_there_is(ada: User, browser: Callable[[User], Client]) -> None:
    fill(ada)

    page = browser(ada).get(PAGE).content.decode()

    for text in ("1 reservation", "nginx", "(booked)", "1 API token", "1 SSH key", "Others", "Bills and the audit log"):
        assert text in page
    assert PAGE in browser(ada).get("/accounts/").content.decode()


def test_the_name_deletes_it_and_logs_out(ada: User, browser: Callable[[User], Client]) -> None:
    client = browser(ada)

    answer = client.post(PAGE, {"username": "ada"}, follow=True)

    assert "Your account is deleted" in answer.content.decode()
    assert not gone(ada).is_active
    assert client.get("/accounts/").status_code == 302


@pytest.mark.parametrize(
    "typed",
    ["", "ada2", "ADA", "a\0da", "🦊" * 500, "ada@example.org"],
    ids=["empty", "other", "upper", "nul", "emoji", "mail"],
)
def test_a_wrong_name_deletes_nothing(typed: str, ada: User, browser: Callable[[User], Client]) -> None:
    answer = browser(ada).post(PAGE, {"username": typed})

    assert answer.status_code == 422
    assert answer.context["form"].errors["username"]
    assert gone(ada).is_active


def test_who_did_not_confirm_lately_is_asked_to(ada: User, browser: Callable[[User], Client]) -> None:
    client = browser(ada)
    session = client.session
    session["account_authentication_methods"] = [{"method": "password", "at": time.time() - 86_400}]
    session.save()

    for answer in (client.get(PAGE), client.post(PAGE, {"username": "ada"})):
        assert answer["Location"].startswith("/accounts/reauthenticate/")
    assert gone(ada).is_active


@pytest.mark.parametrize("rows", [1, 50])
def test_the_page_asks_a_constant_number_of_queries(
    rows: int, ada: User, browser: Callable[[User], Client], django_assert_max_num_queries: Any
) -> None:
    Workspace.objects.update(max_reservations=100, max_cores=1000, max_ram_mib=10**6)
    now = timezone.now()
    for _ in range(rows):
        make_reservation(ada, now=now)
    client = browser(ada)

    with django_assert_max_num_queries(60) as asked:
        assert client.get(PAGE).status_code == 200
    QUERIES.add(len(asked))
    assert len(QUERIES) == 1


QUERIES: set[int] = set()


# ---- operators --------------------------------------------------------------------------------------------


def test_the_command_tells_first_and_then_does_it(ada: User, capsys: Any) -> None:
    make_reservation(ada)

    call_command("close_account", "ADA")
    told = capsys.readouterr().out
    assert "ada would be deleted" in told
    assert "1 reservation" in told
    assert "Nothing is changed" in told
    assert gone(ada).is_active

    call_command("close_account", "ada", "--yes")
    assert "ada is deleted" in capsys.readouterr().out
    assert AuditEntry.objects.get(action="user.close").actor_name == "manage.py close_account"


@pytest.mark.parametrize("name", ["nobody", "", "a\0da"])
def test_the_command_knows_who_is_nobody(name: str) -> None:
    with pytest.raises(CommandError, match="There is no user"):
        call_command("close_account", name)


def test_the_command_refuses_as_the_page_does(ada: User) -> None:
    make_team("Crew", owner=ada, member=make_user("bob"))

    for arguments in (["ada"], ["ada", "--yes"]):
        with pytest.raises(CommandError, match="only owner of Crew"):
            call_command("close_account", *arguments)


def test_the_admin_neither_changes_nor_deletes_the_row(
    ada: User, staff: User, browser: Callable[[User], Client]
) -> None:
    delete(ada)
    client = browser(staff)

    assert client.get(f"/admin/accounts/user/{ada.pk}/delete/").status_code == 403
    client.post(f"/admin/accounts/user/{ada.pk}/change/", {"username": "ada", "is_active": "on"})
    assert not gone(ada).is_active


def test_the_admin_does_not_delete_whoever_did_anything(staff: User, browser: Callable[[User], Client]) -> None:
    quiet, busy = (User.objects.create_user(name) for name in ("quiet", "busy"))  # without a workspace of their own
    audit.record(by=busy, action="reservation.book", target="reservation:1")
    client = browser(staff)

    for user in (quiet, busy):
        client.post(f"/admin/accounts/user/{user.pk}/delete/", {"post": "yes"})
    everybody = {"action": "delete_selected", "_selected_action": [str(busy.pk)], "post": "yes"}
    client.post("/admin/accounts/user/", everybody)

    assert list(User.objects.filter(pk__in=[quiet.pk, busy.pk])) == [busy]
