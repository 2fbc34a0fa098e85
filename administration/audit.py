"""The audit row of what is done in the admin; settings name the function that writes it (accounts)."""

from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string


def record(*, by: object, action: str, target: str, **data: Any) -> None:
    """Add an audit row inside the caller's transaction."""
    import_string(settings.BERTH_AUDIT_FUNCTION)(by=by, action=action, target=target, **data)
