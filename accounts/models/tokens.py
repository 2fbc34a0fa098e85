"""Bearer tokens of the API."""

import hashlib
import secrets
from datetime import datetime

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models

from accounts.validators import no_control_characters


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
