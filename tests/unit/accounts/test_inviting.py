"""Invitations: by mail, for one address, once; and what cannot be is a sentence."""

import re
from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core import mail, serializers
from django.test import Client
from django.utils import timezone

from accounts import inviting, teams
from accounts.inviting import Sent
from accounts.models import AuditEntry, Invitation, Membership, Notification, Role, User, Workspace
from accounts.permissions import NotAllowed
from accounts.teams import TeamProblem
from tests.factories import NOW, make_team, make_user, workspace_of

pytestmark = pytest.mark.django_db(transaction=True)
GUEST = "guest@example.org"


@pytest.fixture
def olga() -> User:
    return make_user("olga")


@pytest.fixture
def crew(olga: User) -> Workspace:
    return make_team("Crew", owner=olga, manager=make_user("max"), member=make_user("ben"))


@pytest.fixture(autouse=True)
def _addresses_are_proven(settings: Any) -> None:
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"


def guest(email: str = GUEST, *, verified: bool = True, name: str = "gil") -> User:
    user = make_user(name)
    EmailAddress.objects.create(user=user, email=email, verified=verified)
    return user


def invite(crew: Workspace, by: User, email: str = GUEST, role: Role = Role.MEMBER, now: Any = NOW) -> Sent:
    return inviting.invite(workspace=crew, email=email, role=role, by=by, now=now)


def secret_of(message: mail.EmailMessage) -> str:
    return str(re.findall(r"/workspaces/join/([\w-]+)/", str(message.body))[0])


# ---- the mail ---------------------------------------------------------------------------------------------


def test_the_mail_has_a_link_whose_secret_is_nowhere_else(
    crew: Workspace, olga: User, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")

    sent = invite(crew, olga)

    (message,) = mail.outbox
    secret = secret_of(message)
    assert (sent.mailed, message.to, message.subject) == (True, [GUEST], "[Berth] olga invites you to Crew")
    assert inviting.find(secret) == sent.invitation
    rows = serializers.serialize("json", [*Invitation.objects.all(), *AuditEntry.objects.all()])
    assert secret not in rows + caplog.text
    assert inviting.find(secret + "x") is None


def test_with_the_mail_server_away_the_invitation_stands(
    crew: Workspace, olga: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object) -> None:
        raise ConnectionRefusedError("no")

    monkeypatch.setattr("django.core.mail.EmailMessage.send", refuse)

    assert invite(crew, olga).mailed is False
    assert Invitation.objects.open(NOW).count() == 1


def test_sent_again_it_has_a_new_link_and_the_old_one_is_good_no_more(crew: Workspace, olga: User) -> None:
    sent, later = invite(crew, olga), NOW + timedelta(days=9)

    inviting.resend(invitation=sent.invitation, by=olga, now=later)

    old, new = (secret_of(message) for message in mail.outbox)
    assert (inviting.find(old), inviting.find(new)) == (None, sent.invitation)
    assert inviting.accept(invitation=sent.invitation, user=guest(), now=later) == crew


def test_who_has_an_account_sees_it_in_the_page_and_gets_one_mail(crew: Workspace, olga: User) -> None:
    gil = guest()

    sent = invite(crew, olga, email=GUEST.upper())

    (news,) = Notification.objects.filter(user=gil)
    assert (news.by_mail, news.mail_at, news.path) == (False, None, f"/workspaces/invitations/{sent.invitation.pk}/")
    assert list(inviting.invitations_for(gil, NOW)) == [sent.invitation]
    assert len(mail.outbox) == 1


# ---- who invites, and whom --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "role", "may"), [("max", "manager", True), ("max", "owner", False), ("ben", "member", False)]
)
def test_managers_invite_and_make_no_owners(who: str, role: str, may: bool, crew: Workspace) -> None:
    by = User.objects.get(username=who)

    if may:
        assert invite(crew, by, role=Role(role)).invitation.role == role
    else:
        with pytest.raises(NotAllowed, match="of Crew may"):
            invite(crew, by, role=Role(role))
        assert not Invitation.objects.exists()


def test_staff_and_strangers_invite_nobody(crew: Workspace) -> None:
    for by in (make_user("root", is_staff=True, is_superuser=True), make_user()):
        with pytest.raises(NotAllowed):
            invite(crew, by)
    assert not mail.outbox


def test_who_is_a_member_is_not_invited_whatever_the_case_of_the_address(crew: Workspace, olga: User) -> None:
    guest("second@example.org", name="two")
    Membership.objects.create(workspace=crew, user=User.objects.get(username="two"))

    for email in ("BEN@example.org", "Second@Example.org"):
        with pytest.raises(TeamProblem, match="is a member already"):
            invite(crew, olga, email=email)


def test_an_address_has_one_open_invitation_and_a_new_one_when_it_lapsed(crew: Workspace, olga: User) -> None:
    first = invite(crew, olga).invitation

    with pytest.raises(TeamProblem, match="has been invited already"):
        invite(crew, olga, email="Guest@example.org")
    second = invite(crew, olga, now=NOW + timedelta(days=8)).invitation

    first.refresh_from_db()
    assert (first.revoked_at is not None, second.revoked_at) == (True, None)


def test_nobody_is_invited_into_a_personal_or_a_closed_workspace(olga: User) -> None:
    closed = make_team("Old", owner=olga, closed_at=NOW)

    with pytest.raises(TeamProblem, match="personal workspace"):
        invite(workspace_of(olga), olga)
    with pytest.raises(TeamProblem, match="Old is closed"):
        invite(closed, olga)


def test_open_invitations_members_and_mails_have_limits(
    crew: Workspace, olga: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    invite(crew, olga, email="a@example.org", now=now)

    for name, most, sentence in (
        ("MOST_OPEN", 1, "1 invitations are open"),
        ("MOST_MEMBERS", 3, "3 members"),
        ("MAILS_AN_HOUR", 1, "mailed within an hour"),
        ("MAILS_AN_HOUR_BY_ONE", 1, "You have mailed 1"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(inviting, name, most)
            with pytest.raises(TeamProblem, match=sentence):
                invite(crew, olga, email="b@example.org", now=now)
    assert len(mail.outbox) == 1
    assert invite(crew, olga, email="b@example.org", now=now).mailed


def test_sending_again_counts_as_a_mail(crew: Workspace, olga: User, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = invite(crew, olga)
    monkeypatch.setattr(inviting, "MAILS_AN_HOUR", 1)

    with pytest.raises(TeamProblem, match="within an hour"):
        inviting.resend(invitation=sent.invitation, by=olga, now=NOW)
    assert inviting.find(secret_of(mail.outbox[0])) == sent.invitation


# ---- accepting --------------------------------------------------------------------------------------------


def test_it_is_accepted_by_the_account_that_has_the_address(crew: Workspace, olga: User) -> None:
    sent, gil = invite(crew, olga, role=Role.MANAGER), guest("Guest@Example.org")

    assert inviting.accept(invitation=sent.invitation, user=gil, now=NOW) == crew

    assert Membership.objects.get(workspace=crew, user=gil).role == "manager"
    assert Notification.objects.filter(user=olga, title="gil is now in Crew").exists()
    actions = AuditEntry.objects.filter(target=f"workspace:{crew.pk}").order_by("pk").values_list("action", flat=True)
    assert list(actions) == ["invitation.create", "invitation.accept"]


def test_another_address_is_told_for_which_it_was(crew: Workspace, olga: User) -> None:
    sent, eve = invite(crew, olga), guest("eve@example.org", name="eve")

    with pytest.raises(TeamProblem, match=r"is for g…@example\.org, and that is no confirmed address of eve"):
        inviting.accept(invitation=sent.invitation, user=eve, now=NOW)
    assert not Membership.objects.filter(user=eve, workspace=crew).exists()


def test_an_address_that_is_not_confirmed_is_nobodys(crew: Workspace, olga: User, settings: Any) -> None:
    sent, gil = invite(crew, olga), guest(verified=False)

    with pytest.raises(TeamProblem, match="no confirmed address"):
        inviting.accept(invitation=sent.invitation, user=gil, now=NOW)
    assert not inviting.invitations_for(gil, NOW)

    settings.ACCOUNT_EMAIL_VERIFICATION = "none"  # a portal that asks for no proof
    assert inviting.accept(invitation=sent.invitation, user=gil, now=NOW) == crew


def test_an_address_that_nothing_proves_needs_the_link(crew: Workspace, olga: User, settings: Any) -> None:
    """Else whoever signs up with somebody's address finds what was sent to it."""
    settings.ACCOUNT_EMAIL_VERIFICATION = "none"
    invitation, eve, client = invite(crew, olga).invitation, guest(verified=False, name="eve"), Client()
    client.force_login(eve)
    page = f"/workspaces/invitations/{invitation.pk}/"

    assert not inviting.invitations_for(eve, NOW)
    assert client.get(page).status_code == client.post(page).status_code == 404
    assert client.post(f"{page}decline/").status_code == 404
    assert not Membership.objects.filter(user=eve, workspace=crew).exists()


@pytest.mark.parametrize("now_is", ["removed", "member", "inactive"])
def test_an_invitation_is_good_while_who_sent_it_may_send_it(now_is: str, crew: Workspace, olga: User) -> None:
    """Else who is put out comes in again by another address of theirs."""
    manager = User.objects.get(username="max")
    invitation, gil = invite(crew, manager, role=Role.MANAGER).invitation, guest()
    if now_is == "removed":
        teams.remove_member(workspace=crew, user=manager, by=olga, now=NOW)
    elif now_is == "member":
        teams.change_role(workspace=crew, user=manager, role=Role.MEMBER, by=olga, now=NOW)
    else:
        User.objects.filter(pk=manager.pk).update(is_active=False)

    assert "may not do so any more" in inviting.why_not(Invitation.objects.get(), gil, NOW)
    with pytest.raises(TeamProblem, match="max, who invited you, may not do so any more"):
        inviting.accept(invitation=invitation, user=gil, now=NOW)
    assert not Membership.objects.filter(user=gil, workspace=crew).exists()

    inviting.resend(invitation=invitation, by=olga, now=NOW)
    assert inviting.accept(invitation=invitation, user=gil, now=NOW) == crew


def test_who_is_removed_has_no_invitation_left(crew: Workspace, olga: User) -> None:
    invitation, gil = invite(crew, olga).invitation, guest()
    Membership.objects.create(user=gil, workspace=crew, role=Role.MEMBER)  # by an earlier one, to another address

    teams.remove_member(workspace=crew, user=gil, by=olga, now=NOW)

    with pytest.raises(TeamProblem, match="taken back"):
        inviting.accept(invitation=invitation, user=gil, now=NOW)


def test_an_invitation_is_used_once(crew: Workspace, olga: User) -> None:
    sent, gil = invite(crew, olga), guest()
    inviting.accept(invitation=sent.invitation, user=gil, now=NOW)
    Membership.objects.filter(user=gil, workspace=crew).delete()

    with pytest.raises(TeamProblem, match="was used already"):
        inviting.accept(invitation=sent.invitation, user=gil, now=NOW)
    assert not Membership.objects.filter(user=gil, workspace=crew).exists()


def test_what_lapsed_or_was_taken_back_or_is_closed_lets_nobody_in(crew: Workspace, olga: User) -> None:
    invitation, gil = invite(crew, olga).invitation, guest()

    with pytest.raises(TeamProblem, match="good for 7 days and has lapsed"):
        inviting.accept(invitation=invitation, user=gil, now=NOW + inviting.GOOD_FOR)
    Workspace.objects.filter(pk=crew.pk).update(closed_at=NOW)
    with pytest.raises(TeamProblem, match="Crew is closed"):
        inviting.accept(invitation=invitation, user=gil, now=NOW)
    inviting.revoke(invitation=invitation, by=olga, now=NOW)
    with pytest.raises(TeamProblem, match="taken back"):
        inviting.accept(invitation=invitation, user=gil, now=NOW)


def test_who_is_in_already_is_told_so(crew: Workspace, olga: User) -> None:
    sent, gil = invite(crew, olga), guest()
    Membership.objects.create(workspace=crew, user=gil, role=Role.MANAGER)

    with pytest.raises(TeamProblem, match="member of Crew already"):
        inviting.accept(invitation=sent.invitation, user=gil, now=NOW)
    assert Membership.objects.get(workspace=crew, user=gil).role == "manager"


def test_whom_it_is_for_declines_and_nobody_else(crew: Workspace, olga: User) -> None:
    invitation = invite(crew, olga).invitation

    with pytest.raises(TeamProblem, match="is for g…@"):
        inviting.decline(invitation=invitation, user=guest("eve@example.org", name="eve"), now=NOW)
    inviting.decline(invitation=invitation, user=guest(), now=NOW)

    assert not Invitation.objects.open(NOW).exists()


def test_a_manager_takes_back_no_owners_invitation(crew: Workspace, olga: User) -> None:
    invitation = invite(crew, olga, role=Role.OWNER).invitation

    with pytest.raises(NotAllowed, match="Only an owner"):
        inviting.revoke(invitation=invitation, by=User.objects.get(username="max"), now=NOW)
    with pytest.raises(NotAllowed, match="Only an owner"):
        inviting.resend(invitation=invitation, by=User.objects.get(username="max"), now=NOW)
