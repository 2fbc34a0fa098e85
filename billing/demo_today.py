"""What the first demo customer has today: a team, somebody invited, wishes in the waiting list, a token, an SSH key.

Each by the action of the page where customers do it, and each only where there is none yet, so that a call that was
killed goes on where it was. There is no kept volume among it: one without an image on a storage server would be a lie
that the doctor finds.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal

from allauth.account.models import EmailAddress
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.db import transaction
from django.db.models import QuerySet

from accounts import inviting, news, permissions, ssh_keys, teams
from accounts.actions import create_token, open_personal_workspace
from accounts.models import ApiToken, Invitation, Notification, Role, Scope, SshKey, User, Workspace
from billing import actions
from compute.capacity import NoCapacity
from reservations import waiting
from reservations.actions import Booking
from reservations.models import Service, Size, StorageProfile, WaitingEntry

BY = "demo_data"
PREFIX = "demo-"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TEAM = "Spectroscopy group"
MEMBERS = [("maria", Role.MANAGER, 5 * DAY), ("jonas", Role.MEMBER, 3 * DAY)]  # who, as what, how long ago
INVITED = "newcomer@example.org"
BUDGET = Decimal(20)  # of the team, each month; it stops there
UNREAD = 4  # pieces of news that nobody has read yet


def person(name: str) -> User:
    """The demo user of this name with a personal workspace, made if need be. Nobody knows a password."""
    with transaction.atomic(durable=True):
        user = User.objects.filter(username=name).first()
        if user is None:
            user = User(username=name)
            user.set_unusable_password()
            user.save()
        open_personal_workspace(user=user, by=BY)
    return user


def workspaces() -> "QuerySet[Workspace]":
    """Those that a demo user owns, personal and shared."""
    return Workspace.objects.filter(memberships__user__username__startswith=PREFIX, memberships__role=Role.OWNER)


def furnish(owner: User, now: datetime) -> list[str]:
    """All that is not there yet; what was made, each as a few words."""
    return [made for step in (_team, _credentials, _wishes) for made in step(owner, now)]


# ---- who belongs together ---------------------------------------------------------------------------------------


def _team(owner: User, now: datetime) -> Iterator[str]:
    team = _team_of(owner)
    if team is None:
        team = teams.create_workspace(name=TEAM, by=owner)
        yield f"the team {TEAM}"
    if team.closed_at is not None:
        return
    for name, role, ago in MEMBERS:
        if _let_in(person(f"{owner.username}-{name}"), role, team, owner, now - ago):
            yield f"its {role}"
    if not Invitation.objects.filter(workspace=team, email=INVITED).exists():
        inviting.invite(workspace=team, email=INVITED, role=Role.MEMBER, by=owner, now=now, mail=False)
        yield "an invitation"


def _team_of(owner: User) -> Workspace | None:
    owned = Workspace.objects.filter(personal_of=None, memberships__user=owner, memberships__role=Role.OWNER)
    return owned.order_by("pk").first()


def _let_in(user: User, role: Role, team: Workspace, owner: User, then: datetime) -> bool:
    """Invited and accepted; False when that was done before, whatever became of it."""
    email = f"{user.username}@example.org"
    # Of the log-in alone: `user.email`, which news is mailed to, stays empty.
    EmailAddress.objects.get_or_create(user=user, email=email, defaults={"verified": True, "primary": True})
    invitation = Invitation.objects.filter(workspace=team, email=email).first()
    if invitation is None:
        invitation = inviting.invite(workspace=team, email=email, role=role, by=owner, now=then, mail=False).invitation
    if invitation.accepted_at or invitation.revoked_at or invitation.expires_at <= then + HOUR:
        return False
    inviting.accept(invitation=invitation, user=user, now=then + HOUR)
    return True


# ---- what they get in by ----------------------------------------------------------------------------------------


def _credentials(owner: User, now: datetime) -> Iterator[str]:
    """Both are of no use to anybody: the token's secret and the private key are thrown away here."""
    if not ApiToken.objects.filter(user=owner).exists():
        create_token(user=owner, name="nightly measurements", scopes=[Scope.READ], lifetime=90 * DAY, now=now, by=owner)
        yield "an API token"
    if not SshKey.objects.filter(user=owner).exists():
        public = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        ssh_keys.add(user=owner, text=f"{public.decode()} {owner.username}@laptop", by=owner)
        yield "an SSH key"


# ---- what they wait for -----------------------------------------------------------------------------------------


def _wishes(owner: User, now: datetime) -> Iterator[str]:
    """One that the team's budget refuses, so that it waits, and one with room, which the portal's next round offers."""
    team = _team_of(owner)
    if team is not None and team.closed_at is None:
        member = person(f"{owner.username}-{MEMBERS[-1][0]}")
        wishes = WaitingEntry.objects.filter(workspace=team)
        if not wishes.exists() and permissions.user_can_book(member, team):
            actions.set_spending(workspace=team, monthly_budget=BUDGET, hard_stop=True, by=owner)
            if _join(team, member, "Spectra of the whole term", 30 * DAY, None, now):
                yield "a wish that the budget refuses"
    own = Workspace.objects.get(personal_of=owner)
    if not WaitingEntry.objects.filter(workspace=own).exists():
        begin = (now + 2 * DAY).replace(hour=9, minute=0, second=0, microsecond=0)
        if _join(own, owner, "Practice for the exam", 2 * HOUR, begin, now):
            yield "a wish that gets an offer"
    _read_what_is_old(owner, now)


def _join(workspace: Workspace, by: User, name: str, length: timedelta, start: datetime | None, now: datetime) -> bool:
    booking = _booking(name, length, start)
    if booking is None:
        return False
    try:
        waiting.join(booking=booking, workspace=workspace, by=by, now=now)
    except NoCapacity:  # no node is so big: it would wait in vain
        return False
    return True


def _booking(name: str, length: timedelta, start: datetime | None) -> Booking | None:
    services = [service for service in Service.objects.order_by("slug") if not service.unavailable_reason]
    for size in Size.objects.filter(active=True, cores__lte=1).order_by("-cores", "ram_mib"):
        for service in services:
            if service.min_ram_mib <= size.ram_mib:
                storage = StorageProfile.objects.get(code=StorageProfile.Code.C1)
                return Booking(service=service, size=size, length=length, start=start, storage=storage, name=name)
    return None


def _read_what_is_old(owner: User, now: datetime) -> None:
    """All news but the last few: nobody leaves a hundred unread."""
    if Notification.objects.filter(user=owner).exclude(read_at=None).exists():
        return
    for row in news.shown_to(owner)[UNREAD:]:
        news.read(user=owner, pk=row.pk, now=now)
