"""What people are told, in the page and by mail, and what each wants to hear."""

from django.conf import settings
from django.db import models


class Notice(models.TextChoices):
    """Kinds of news. A person chooses for each whether it comes by mail and in the page."""

    ENDS_SOON = "ends_soon", "A reservation ends soon (24 hours, 1 hour and 10 minutes before)"
    STARTED = "started", "A reservation started"
    FAILED = "failed", "A reservation failed"
    MOVED = "moved", "A reservation moved to another node, or lost its node"
    ENDED = "ended", "A reservation ended"
    OFFER = "offer", "The waiting list has an offer for you, or it lapsed"
    WORKSPACE = "workspace", "You were invited, or your role in a workspace changed"


class Notification(models.Model):
    """One piece of news for one person: told once, whatever happens, since `key` is unique for each person."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notifications")
    kind = models.CharField(max_length=20, choices=Notice.choices)
    key = models.CharField(max_length=120, help_text="what makes it this one: ends_soon:7:1h:2026-05-04T10:00Z")
    title = models.CharField(max_length=200)
    text = models.CharField(max_length=600, blank=True)
    path = models.CharField(max_length=200, blank=True, help_text="the page that it leads to")
    created_at = models.DateTimeField()
    in_app = models.BooleanField(default=True, help_text="shown in the page")
    read_at = models.DateTimeField(null=True, blank=True)
    by_mail = models.BooleanField(default=True, help_text="to be mailed")
    mailed_at = models.DateTimeField(null=True, blank=True)
    mail_attempts = models.PositiveIntegerField(default=0)
    mail_at = models.DateTimeField(null=True, blank=True, help_text="not before then; empty: nothing to be mailed")
    mail_until = models.DateTimeField(null=True, blank=True, help_text="it is no news any more after that")

    class Meta:
        ordering = ["-created_at", "-pk"]
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="notification_once")]
        indexes = [
            models.Index(fields=["mail_at"], condition=models.Q(mailed_at=None, by_mail=True), name="notification_due"),
            models.Index(fields=["user", "-created_at"], condition=models.Q(in_app=True), name="notification_of_user"),
            models.Index(
                fields=["user", "-created_at"],
                condition=models.Q(in_app=True, read_at=None),
                name="notification_unread",
            ),
            models.Index(fields=["created_at"], name="notification_created"),
        ]

    def __str__(self) -> str:
        return self.title


class NotificationChoice(models.Model):
    """What somebody wants to hear of one kind; without a row both ways."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notification_choices")
    kind = models.CharField(max_length=20, choices=Notice.choices)
    in_app = models.BooleanField(default=True)
    by_mail = models.BooleanField(default=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "kind"], name="notification_choice_once")]

    def __str__(self) -> str:
        return f"{self.user}: {self.kind}"


class Farewell(models.Model):
    """The last mail to who has deleted the account. It has nothing to do with the user's row, which has no address."""

    email = models.EmailField()
    text = models.TextField()
    created_at = models.DateTimeField()
    attempts = models.PositiveIntegerField(default=0)
    mail_at = models.DateTimeField(help_text="not before then")

    def __str__(self) -> str:
        return f"farewell {self.pk}"
