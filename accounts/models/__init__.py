"""Users, the workspaces that own everything, API tokens, news for people and the audit log."""

from accounts.models.audit import AuditEntry
from accounts.models.notifications import Farewell, Notice, Notification, NotificationChoice
from accounts.models.people import SshKey, User, UserManager
from accounts.models.tokens import ApiToken, Scope, every_scope
from accounts.models.workspaces import Invitation, Membership, Role, Workspace

__all__ = [
    "ApiToken",
    "AuditEntry",
    "Farewell",
    "Invitation",
    "Membership",
    "Notice",
    "Notification",
    "NotificationChoice",
    "Role",
    "Scope",
    "SshKey",
    "User",
    "UserManager",
    "Workspace",
    "every_scope",
]
