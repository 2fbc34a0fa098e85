"""Asks people into a shared workspace by mail: each deed one transaction, with its audit row inside.

The secret in the mail's link is nowhere but there: of it the row has the SHA-256, and the page that the link leads to
puts only the invitation's number into the session. Who has the link still needs an account with the address that was
invited, and an invitation is good for as long as who sent it may still give that role.
"""

import hashlib
import logging
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from allauth.account.models import EmailAddress
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import Q, QuerySet
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from accounts import audit, permissions
from accounts.models import AuditEntry, Invitation, Membership, Notice, Notification, Role, User, Workspace
from accounts.models.workspaces import InvitationQuerySet
from accounts.notifying import notify
from accounts.teams import MOST_MEMBERS, PERSONAL, TeamProblem, lock

logger = logging.getLogger(__name__)
GOOD_FOR = timedelta(days=7)
MOST_OPEN = 100  # invitations of one workspace
MAILS_AN_HOUR = 30  # of one workspace
MAILS_AN_HOUR_BY_ONE = 60  # of one person, in all workspaces
AN_HOUR = timedelta(hours=1)
HELD_INVITATION = "invitation"  # in a session: the number of the one whose link was followed
SENT = ("invitation.create", "invitation.resend")  # what the mails of the last hour are counted by


@dataclass(frozen=True, slots=True)
class Sent:
    """An invitation that stands, and whether its mail was taken by the mail server."""

    invitation: Invitation
    mailed: bool


def invite(*, workspace: Workspace, email: str, role: Role, by: User, now: datetime, mail: bool = True) -> Sent:
    """Ask whoever has this address to join, and mail them the link. Raises NotAllowed or TeamProblem.

    Without `mail` nobody gets the link: it is on the page of whoever has proven the address, or can be sent again.
    """
    secret = secrets.token_urlsafe(32)
    with transaction.atomic(durable=True):
        row = lock(workspace.pk)
        _check_may_invite(row, by, role)
        if members_with(row, email).exists():
            raise TeamProblem(f"Somebody with the address {email} is a member already.")
        rows = Invitation.objects.filter(workspace=row)
        # One that lapsed makes room for the new one.
        rows.filter(email__iexact=email, accepted_at=None, revoked_at=None, expires_at__lte=now).update(revoked_at=now)
        if rows.open(now).filter(email__iexact=email).exists():
            raise TeamProblem(f"{email} has been invited already. You can send that invitation again.")
        if rows.open(now).count() >= MOST_OPEN:
            raise TeamProblem(f"{MOST_OPEN} invitations are open already. Take some back, or wait for answers.")
        _check_room(row)
        _check_rate(row, by)
        invitation = Invitation.objects.create(
            workspace=row,
            email=email,
            role=role,
            digest=digest_of(secret),
            invited_by=by,
            created_at=now,
            expires_at=now + GOOD_FOR,
        )
        _record(invitation, by, "create")
        _tell(invitation, now)
    return Sent(invitation, mail and _mail(invitation, secret))


def resend(*, invitation: Invitation, by: User, now: datetime) -> Sent:
    """Mail it again with a new link, good for as long as a new one; the old link is good no more.

    Raises NotAllowed or TeamProblem.
    """
    secret = secrets.token_urlsafe(32)
    with transaction.atomic(durable=True):
        workspace = lock(invitation.workspace_id)
        row = _open(invitation, now, lapsed_too=True)
        _check_may_invite(workspace, by, Role(row.role))
        _check_rate(workspace, by)
        row.digest, row.expires_at, row.invited_by = digest_of(secret), now + GOOD_FOR, by
        row.save(update_fields=["digest", "expires_at", "invited_by"])
        _record(row, by, "resend")
    return Sent(row, _mail(row, secret))


def revoke(*, invitation: Invitation, by: User, now: datetime) -> None:
    """Its link is good no more. Raises NotAllowed, or TeamProblem when it was accepted or revoked before."""
    with transaction.atomic(durable=True):
        workspace = lock(invitation.workspace_id)
        row = _open(invitation, now, lapsed_too=True)
        mine = permissions.role_in(by, workspace.pk)
        permissions.check_may_give_role(mine, Role(row.role), workspace)
        _revoke(row, by, now, "revoke")


def decline(*, invitation: Invitation, user: User, now: datetime) -> None:
    """Whom it is for does not want it. Raises TeamProblem."""
    with transaction.atomic(durable=True):
        lock(invitation.workspace_id)
        row = _open(invitation, now, lapsed_too=True)
        _check_address(row, user)
        _revoke(row, user, now, "decline")


def _revoke(row: Invitation, by: User, now: datetime, what: str) -> None:
    row.revoked_at = now
    row.save(update_fields=["revoked_at"])
    _record(row, by, what)


def accept(*, invitation: Invitation, user: User, now: datetime) -> Workspace:
    """Join. Raises TeamProblem when it was used, revoked or lapsed, or is for an address that is not `user`'s."""
    with transaction.atomic(durable=True):
        workspace = lock(invitation.workspace_id)
        row = _open(invitation, now)
        _check_address(row, user)
        if workspace.closed_at is not None:
            raise TeamProblem(f"{workspace} is closed.")
        _check_sender(row)
        if permissions.role_in(user, workspace.pk):
            raise TeamProblem(f"You are a member of {workspace} already.")
        _check_room(workspace)
        Membership.objects.create(workspace=workspace, user=user, role=row.role)
        row.accepted_at, row.accepted_by = now, user
        row.save(update_fields=["accepted_at", "accepted_by"])
        _record(row, user, "accept", user=user.username)
        if row.invited_by and row.invited_by != user:
            notify(
                user=row.invited_by,
                kind=Notice.WORKSPACE,
                key=f"invitation:{row.pk}:accepted",
                title=f"{user} is now in {workspace}",
                text=f"{user} accepted your invitation and is {row.role} of {workspace}.",
                path=f"/workspaces/{workspace.pk}/",
                now=now,
            )
    return workspace


# ---- reading ----------------------------------------------------------------------------------------------


def digest_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def find(secret: str) -> Invitation | None:
    """The one with this secret, in whatever state it is."""
    return Invitation.objects.filter(digest=digest_of(secret)).first()


def invitations_for(user: User, now: datetime) -> InvitationQuerySet:
    """The open ones to an address that is proven to be `user`'s."""
    rows = Invitation.objects.open(now).filter(workspace__closed_at=None)
    addresses = Q(pk__in=[])
    for email in proven_addresses_of(user):
        addresses |= Q(email__iexact=email)
    return rows.filter(addresses).select_related("workspace", "invited_by")


def is_for(invitation: Invitation, user: User) -> bool:
    """Whether they may accept it, having followed its link."""
    return invitation.email.lower() in {email.lower() for email in _addresses_of(user)}


def is_known_to(invitation: Invitation, user: User) -> bool:
    """Whether they may read and answer it without its link: the address is proven to be theirs."""
    return invitation.email.lower() in {email.lower() for email in proven_addresses_of(user)}


def why_not(row: Invitation, user: User | None, now: datetime) -> str:
    """Why `user` could not accept it now, as a sentence; empty when they could, or when nobody is logged in yet."""
    try:
        _check_open(row, now)
        if user is not None:
            _check_address(row, user)
        _check_sender(row)
    except TeamProblem as problem:
        return str(problem)
    return ""


def _addresses_of(user: User) -> list[str]:
    """Those that a mail has proven, or, where this portal asks for no proof, those that the account has."""
    if settings.ACCOUNT_EMAIL_VERIFICATION != "none":
        return proven_addresses_of(user)
    rows = EmailAddress.objects.filter(user=user)
    return [email for email in {user.email, *rows.values_list("email", flat=True)} if email]


def proven_addresses_of(user: User) -> list[str]:
    """Those that a mail has proven."""
    return list(EmailAddress.objects.filter(user=user, verified=True).values_list("email", flat=True))


def members_with(workspace: Workspace, email: str) -> "QuerySet[Membership]":
    """Those who have this address, proven or as their account's own."""
    proven = EmailAddress.objects.filter(email__iexact=email, verified=True).values("user")
    return workspace.memberships.filter(Q(user__email__iexact=email) | Q(user__in=proven))


def masked(email: str) -> str:
    """Enough to know one's own address by: a…@example.org."""
    name, _, host = email.rpartition("@")
    return f"{name[:1]}…@{host}"


# ---- what has to hold -------------------------------------------------------------------------------------


def _check_may_invite(workspace: Workspace, by: User, role: Role) -> None:
    if permissions.is_personal(workspace):
        raise TeamProblem(PERSONAL)
    if workspace.closed_at is not None:
        raise TeamProblem(f"{workspace} is closed.")
    mine = permissions.role_in(by, workspace.pk)
    permissions.check_may_invite(mine, workspace)
    permissions.check_may_give_role(mine, role, workspace)


def _check_room(workspace: Workspace) -> None:
    if workspace.memberships.count() >= MOST_MEMBERS:
        raise TeamProblem(f"{workspace} has {MOST_MEMBERS} members, which is the most that a workspace can have.")


def _check_rate(workspace: Workspace, by: User) -> None:
    sent = AuditEntry.objects.filter(action__in=SENT, at__gt=timezone.now() - AN_HOUR)
    if sent.filter(target=f"workspace:{workspace.pk}").count() >= MAILS_AN_HOUR:
        raise TeamProblem(f"{MAILS_AN_HOUR} invitations of {workspace} were mailed within an hour. Try again later.")
    if sent.filter(actor=by).count() >= MAILS_AN_HOUR_BY_ONE:
        raise TeamProblem(f"You have mailed {MAILS_AN_HOUR_BY_ONE} invitations within an hour. Try again later.")


def _open(invitation: Invitation, now: datetime, *, lapsed_too: bool = False) -> Invitation:
    """The row as it is now, if something can still be done with it. Raises TeamProblem."""
    rows = Invitation.objects.select_for_update(of=("self",)).select_related("invited_by", "workspace")
    row = rows.get(pk=invitation.pk)
    _check_open(row, now, lapsed_too=lapsed_too)
    return row


def _check_open(row: Invitation, now: datetime, *, lapsed_too: bool = False) -> None:
    if row.accepted_at is not None:
        raise TeamProblem("This invitation was used already.")
    if row.revoked_at is not None:
        raise TeamProblem("This invitation was taken back. Ask for a new one.")
    if row.expires_at <= now and not lapsed_too:
        raise TeamProblem(f"This invitation was good for {GOOD_FOR.days} days and has lapsed. Ask for a new one.")


def _check_address(row: Invitation, user: User) -> None:
    if is_for(row, user):
        return
    raise TeamProblem(
        f"This invitation is for {masked(row.email)}, and that is no confirmed address of {user}. Log in with the"
        " account that has it, or add and confirm it under E-mail addresses."
    )


def _check_sender(row: Invitation) -> None:
    """Else who is put out of a workspace comes in again by what they sent to another address of theirs."""
    sender = row.invited_by
    role = permissions.role_in(sender, row.workspace_id) if sender and sender.is_active else None
    if not permissions.leads(role) or not permissions.may_give_role(role, Role(row.role)):
        who = f"{sender}, who" if sender else "Whoever"
        raise TeamProblem(f"{who} invited you, may not do so any more. Ask for a new invitation.")


# ---- telling ----------------------------------------------------------------------------------------------


def _mail(invitation: Invitation, secret: str) -> bool:
    """After the commit: with the mail server away the invitation stands, and can be sent again."""
    context = {
        "invitation": invitation,
        "site_name": "Berth",
        "host": settings.BERTH_BASE_URL.partition("://")[2],
        "url": settings.BERTH_BASE_URL + reverse("workspaces:join", args=[secret]),
    }
    by, name = invitation.invited_by, " ".join(invitation.workspace.name.split())
    subject = f"{settings.ACCOUNT_EMAIL_SUBJECT_PREFIX}{by} invites you to {name}"
    message = EmailMessage(subject, render_to_string("accounts/email/invitation.txt", context), to=[invitation.email])
    try:
        message.send()
    except OSError as problem:  # smtplib's errors are OSErrors
        logger.warning("invitation %s could not be mailed (%s)", invitation.pk, type(problem).__name__)
        return False
    return True


def _tell(invitation: Invitation, now: datetime) -> None:
    """Who has an account with this address sees it in the page, too; the mail is the invitation's own."""
    address = EmailAddress.objects.filter(email__iexact=invitation.email, verified=True).select_related("user").first()
    if address is None:
        return
    key = f"invitation:{invitation.pk}"
    title = f"{invitation.invited_by} invites you to {invitation.workspace}"
    text = f"As {invitation.role}. Accept or decline it on the page of your workspaces."
    path = f"/workspaces/invitations/{invitation.pk}/"
    user, until = address.user, invitation.expires_at
    if notify(user=user, kind=Notice.WORKSPACE, key=key, title=title, text=text, path=path, now=now, mail_until=until):
        Notification.objects.filter(user=user, key=key).update(by_mail=False, mail_at=None, mail_until=None)


def _record(invitation: Invitation, by: User, what: str, **data: str) -> None:
    audit.record(
        by=by,
        action=f"invitation.{what}",
        target=f"workspace:{invitation.workspace_id}",
        invitation=invitation.pk,
        email=invitation.email,
        role=str(invitation.role),
        **data,
    )
