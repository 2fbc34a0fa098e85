"""The audit log."""

from django.conf import settings
from django.db import models


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
