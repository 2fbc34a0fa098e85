"""Users, the workspaces that own everything, API tokens and the audit log."""

import hashlib
import secrets
from datetime import datetime
from typing import ClassVar

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.contrib.auth.models import UserManager as DjangoUserManager
from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Lower

from accounts.validators import no_control_characters, username_validators, validate_time_zone


class UserManager(DjangoUserManager["User"]):
    def get_by_natural_key(self, username: str | None) -> "User":
        """Log-in does not care for upper and lower case."""
        return self.get(username__iexact=username)


class User(AbstractUser):
    """A person who can log in. User name and e-mail are unique regardless of case."""

    username = models.CharField(
        "user name",
        max_length=40,
        unique=True,
        validators=username_validators,
        help_text="2 to 40 letters, digits and . _ -",
        error_messages={"unique": "This user name is taken."},
    )
    email = models.EmailField("e-mail address", blank=True)
    time_zone = models.CharField(
        max_length=64,
        blank=True,
        validators=[validate_time_zone],
        help_text="Empty: the zone of the browser.",
    )

    objects: ClassVar[UserManager] = UserManager()

    class Meta(AbstractUser.Meta):  # type: ignore[name-defined,misc]  # django-stubs hides AbstractUser.Meta
        constraints = [
            models.UniqueConstraint(
                Lower("username"), name="user_username_ci", violation_error_message="This user name is taken."
            ),
            models.UniqueConstraint(
                Lower("email"),
                condition=~models.Q(email=""),
                name="user_email_ci",
                violation_error_message="Another account uses this e-mail address.",
            ),
        ]


class WorkspaceQuerySet(models.QuerySet["Workspace"]):
    def of(self, user: User) -> "WorkspaceQuerySet":
        """The workspaces that `user` is a member of, the personal one first."""
        return self.filter(memberships__user=user).order_by(
            models.Case(models.When(personal_of=user, then=0), default=1), "name"
        )


class Workspace(models.Model):
    """Owns reservations, volumes, quota and bills. Every user has a personal one; shared ones have members."""

    name = models.CharField(max_length=80, validators=[no_control_characters])
    personal_of = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="personal_workspace",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    max_reservations = models.PositiveIntegerField("reservations at once", default=10)
    max_cores = models.DecimalField(
        "cores at once", max_digits=7, decimal_places=2, default=8, validators=[MinValueValidator(0)]
    )
    max_ram_mib = models.PositiveIntegerField("RAM at once (MiB)", default=16_384)
    max_storage_gb = models.PositiveIntegerField("storage at once (GB)", default=100)
    max_hours = models.PositiveIntegerField("longest reservation (hours)", default=24 * 31)
    max_days_ahead = models.PositiveIntegerField(
        "farthest start (days)", default=180, validators=[MaxValueValidator(3650)]
    )

    objects = WorkspaceQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=models.Q(max_cores__gte=0), name="workspace_max_cores_not_negative")
        ]

    def __str__(self) -> str:
        return self.name


class Role(models.TextChoices):
    OWNER = "owner"
    MANAGER = "manager"
    MEMBER = "member"


class Membership(models.Model):
    """A user's role in a workspace."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.MEMBER)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["workspace", "user"],
                name="membership_once",
                violation_error_message="This person is a member already.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.workspace} ({self.role})"


class Scope(models.TextChoices):
    """What a token may do. Neither contains the other."""

    READ = "read"
    WRITE = "write"


def every_scope() -> list[str]:
    return [str(scope) for scope in Scope]


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def live(self, now: datetime) -> "ApiTokenQuerySet":
        """Neither revoked nor expired."""
        return self.filter(revoked_at=None).filter(models.Q(expires_at=None) | models.Q(expires_at__gt=now))

    def find(self, secret: str, now: datetime) -> "ApiToken | None":
        """The live token with this secret, of an active user; None when there is none."""
        return (
            self.live(now)
            .select_related("user")
            .filter(digest=ApiToken.digest_of(secret), user__is_active=True)
            .first()
        )


class ApiToken(models.Model):
    """A bearer token of the API. Only its SHA-256 is kept: 256 random bits need no slow hash."""

    PREFIX = "berth_"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=80, validators=[no_control_characters])
    digest = models.CharField(max_length=64, unique=True, editable=False)
    hint = models.CharField("begins with", max_length=16, editable=False)
    scopes = ArrayField(models.CharField(max_length=20, choices=Scope.choices), default=every_scope)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        verbose_name = "API token"
        constraints = [
            models.CheckConstraint(condition=~models.Q(scopes=[]), name="token_has_a_scope"),
        ]

    def __str__(self) -> str:
        return f"{self.hint}… of {self.user}"

    @property
    def may(self) -> str:
        """Its scopes in words: read and write."""
        return " and ".join(scope for scope in every_scope() if scope in self.scopes)

    @staticmethod
    def digest_of(secret: str) -> str:
        return hashlib.sha256(secret.encode()).hexdigest()

    @classmethod
    def new_secret(cls) -> str:
        return cls.PREFIX + secrets.token_urlsafe(32)


class AuditEntry(models.Model):
    """Who did what to what, written in the transaction of the deed.

    Rows are only ever added: a trigger of the database refuses the rest, but that a deleted account leaves its rows.
    """

    at = models.DateTimeField(db_index=True)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL)
    actor_name = models.CharField(max_length=80, help_text="Kept when the account is deleted.")
    action = models.CharField(max_length=60)
    target = models.CharField(max_length=120)
    data = models.JSONField(default=dict, blank=True)

    class Meta:
        verbose_name_plural = "audit entries"
        indexes = [models.Index(fields=["target", "at"], name="audit_target_at")]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.actor_name} {self.action} {self.target}"
