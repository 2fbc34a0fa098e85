"""What can be done to accounts: each one transaction, with its audit row inside."""

from datetime import datetime, timedelta

from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.db import transaction

from accounts import audit
from accounts.models import ApiToken, Membership, Role, Scope, User, Workspace

LONGEST_TOKEN = timedelta(days=365)
MOST_TOKENS = 50


class BadToken(Exception):
    """The token cannot be made; the text is for the person who asked."""


def open_personal_workspace(*, user: User, by: object) -> Workspace:
    """The personal workspace of `user`, made when it does not exist yet."""
    with transaction.atomic():
        workspace, created = Workspace.objects.get_or_create(personal_of=user, defaults={"name": user.username})
        if created:
            Membership.objects.create(workspace=workspace, user=user, role=Role.OWNER)
            audit.record(by=by, action="workspace.open", target=f"workspace:{workspace.pk}", name=workspace.name)
    return workspace


def create_admin(*, username: str, password: str, by: object) -> User:
    """A superuser with a personal workspace."""
    with transaction.atomic(durable=True):
        user = User.objects.create_superuser(username, "", password)
        open_personal_workspace(user=user, by=by)
        audit.record(by=by, action="user.create_admin", target=f"user:{user.pk}", username=username)
    return user


def create_token(
    *, user: User, name: str, scopes: list[str], lifetime: timedelta | None, now: datetime, by: object
) -> tuple[ApiToken, str]:
    """A new API token and its secret, which is not kept and cannot be shown again.

    Without a lifetime it never expires; only operators offer that. Raises BadToken.
    """
    if lifetime is not None and not timedelta(0) < lifetime <= LONGEST_TOKEN:
        raise BadToken(f"A token is good for at least 1 and at most {LONGEST_TOKEN.days} days.")
    if not scopes or not set(scopes) <= set(Scope.values):
        raise BadToken(f"A token needs a scope: {' or '.join(Scope.values)}.")
    secret = ApiToken.new_secret()
    with transaction.atomic(durable=True):
        row = User.objects.select_for_update().get(pk=user.pk)  # two at once do not pass the limit together
        if row.closed_at is not None:
            raise BadToken("This account is deleted.")
        if ApiToken.objects.live(now).filter(user=user).count() >= MOST_TOKENS:
            raise BadToken(f"There are {MOST_TOKENS} tokens already. Revoke one that is not used any more.")
        token = ApiToken.objects.create(
            user=user,
            name=name,
            scopes=sorted(set(scopes)),
            digest=ApiToken.digest_of(secret),
            hint=secret[:12],
            expires_at=now + lifetime if lifetime else None,
        )
        audit.record(
            by=by,
            action="token.create",
            target=f"user:{user.pk}",
            token=token.hint,
            name=name,
            scopes=token.scopes,
            expires_at=token.expires_at.isoformat() if token.expires_at else None,
        )
    return token, secret


def revoke_token(*, token: ApiToken, now: datetime, by: object) -> None:
    """The token is refused from now on."""
    with transaction.atomic(durable=True):
        if ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now):
            audit.record(by=by, action="token.revoke", target=f"user:{token.user_id}", token=token.hint)


def reset_second_factors(*, user: User, by: object) -> tuple[int, int]:
    """Remove all second factors and recovery codes of somebody who is locked out, and end every session of theirs.

    The number of factors and of sessions. The password stays: who has only that gets in and may set up new ones.
    """
    with transaction.atomic(durable=True):
        factors = Authenticator.objects.filter(user=user)
        kinds = sorted(factors.values_list("type", flat=True))
        factors.delete()
        sessions = list(UserSession.objects.filter(user=user))
        for session in sessions:
            session.end()
        audit.record(by=by, action="mfa.reset", target=f"user:{user.pk}", factors=kinds, sessions=len(sessions))
    return len(kinds), len(sessions)


def end_session(*, session: UserSession, by: object) -> None:
    """Log somebody out of one browser."""
    with transaction.atomic(durable=True):
        audit.record(by=by, action="session.end", target=f"user:{session.user_id}", ip=str(session.ip))
        session.end()
