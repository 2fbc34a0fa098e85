"""Users, and the SSH keys that they bring."""

from typing import ClassVar

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.contrib.auth.models import UserManager as DjangoUserManager
from django.db import models
from django.db.models.functions import Lower

from accounts.validators import no_control_characters, username_validators, validate_date_language, validate_time_zone


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

    date_language = models.CharField(
        "language of dates",
        max_length=20,
        blank=True,
        validators=[validate_date_language],
        help_text="Empty: English, with the year first.",
    )
    current_workspace = models.ForeignKey(
        "accounts.Workspace",
        null=True,
        blank=True,
        editable=False,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="chosen last; empty, or no longer a member: the personal one",
    )
    calendar_key = models.UUIDField(
        null=True, blank=True, editable=False, unique=True, help_text="the feed's secret address is derived from it"
    )
    closed_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="the account was deleted; bills and the audit log name it"
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


class SshKey(models.Model):
    """A public key of somebody's, for services that are reached by SSH."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="ssh_keys")
    name = models.CharField(max_length=80, validators=[no_control_characters])
    public_key = models.TextField(max_length=4096, help_text="type and base64, without the comment")
    fingerprint = models.CharField(max_length=64, editable=False, help_text="SHA256:…, as ssh-keygen -l prints it")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "SSH key"
        ordering = ["name", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "fingerprint"],
                name="ssh_key_once",
                violation_error_message="You have added this key already.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint})"
