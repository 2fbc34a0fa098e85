"""The workspaces that own everything, who is in them, and who was asked to join."""

from datetime import datetime

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Lower

from accounts.models.people import User
from accounts.validators import no_control_characters


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
    closed_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="nothing can be booked for it any more; its bills stay"
    )

    directory_name = models.CharField(
        "name in single sign-on",
        max_length=80,
        unique=True,
        null=True,
        blank=True,
        validators=[no_control_characters],
        help_text="as BERTH_OIDC_GROUPS names it: members come and go with the provider's groups",
    )

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
    by_directory = models.BooleanField(
        "by single sign-on", default=False, editable=False, help_text="goes when the provider's group does"
    )

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


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def open(self, now: datetime) -> "InvitationQuerySet":
        """Those that can still be accepted."""
        return self.filter(accepted_at=None, revoked_at=None, expires_at__gt=now)


class Invitation(models.Model):
    """Somebody with this address was asked to join. Of the secret in the mail's link only the SHA-256 is kept."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="invitations")
    email = models.EmailField("e-mail address")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.MEMBER)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    invited_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    accepted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                Lower("email"),
                "workspace",
                condition=models.Q(accepted_at=None, revoked_at=None),
                name="invitation_once",
                violation_error_message="This address has been invited already.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.email} to {self.workspace}"
