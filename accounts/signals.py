"""What allauth does to accounts leaves an audit row too."""

from typing import Any

from allauth.account import signals as account
from allauth.mfa import signals as mfa

from accounts import audit
from accounts.models import User


def connect() -> None:
    """Called once, when the app is ready."""
    for signal, action in (
        (mfa.authenticator_added, "mfa.add"),
        (mfa.authenticator_removed, "mfa.remove"),
        (mfa.authenticator_reset, "mfa.new_codes"),
    ):
        signal.connect(_recorder(action), weak=False, dispatch_uid=f"audit {action}")
    for signal, action in (
        (account.password_changed, "password.change"),
        (account.password_set, "password.set"),
        (account.password_reset, "password.reset"),
    ):
        signal.connect(_recorder(action), weak=False, dispatch_uid=f"audit {action}")


def _recorder(action: str) -> Any:
    def note(user: User, authenticator: Any = None, **more: Any) -> None:
        what = {"kind": str(authenticator.type)} if authenticator else {}
        audit.record(by=user, action=action, target=f"user:{user.pk}", **what)

    return note
