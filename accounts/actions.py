"""What can be done to accounts: each one transaction, with its audit row inside."""

from datetime import datetime

from django.db import transaction

from accounts import audit
from accounts.models import ApiToken, Membership, Role, User, Workspace


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


def create_token(*, user: User, name: str, expires_at: datetime | None, by: object) -> tuple[ApiToken, str]:
    """A new API token and its secret, which is not kept and cannot be shown again."""
    secret = ApiToken.new_secret()
    with transaction.atomic(durable=True):
        token = ApiToken.objects.create(
            user=user, name=name, digest=ApiToken.digest_of(secret), hint=secret[:12], expires_at=expires_at
        )
        audit.record(by=by, action="token.create", target=f"user:{user.pk}", token=token.hint, name=name)
    return token, secret


def revoke_token(*, token: ApiToken, now: datetime, by: object) -> None:
    """The token is refused from now on."""
    with transaction.atomic(durable=True):
        if ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=now):
            audit.record(by=by, action="token.revoke", target=f"user:{token.user_id}", token=token.hint)
