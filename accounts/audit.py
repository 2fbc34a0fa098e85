"""The audit log's one writer."""

from typing import Any

from django.utils import timezone

from accounts.models import AuditEntry, User


def record(*, by: object, action: str, target: str, **data: Any) -> None:
    """Add a row inside the caller's transaction. `by` is a User, or a word for a machine such as "manage.py"."""
    actor = by if isinstance(by, User) else None
    AuditEntry.objects.create(
        at=timezone.now(), actor=actor, actor_name=str(by)[:80], action=action, target=target[:120], data=data
    )
