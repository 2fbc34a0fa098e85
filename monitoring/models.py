"""What monitoring remembers: which processes live, what is wrong and who was told, how the last look for drift went."""

from django.conf import settings
from django.db import models
from django.db.models import Q


class Heartbeat(models.Model):
    """That a process of the portal lives: it writes its row every few seconds, whatever its work."""

    class Kind(models.TextChoices):
        WORKER = "worker"
        BEAT = "beat", "timetable"

    name = models.CharField(max_length=120, primary_key=True, help_text="worker@host, beat@host")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    started_at = models.DateTimeField()
    at = models.DateTimeField()
    looked_at = models.DateTimeField(null=True, blank=True, help_text="when it looked for what is wrong last")

    class Meta:
        ordering = ["kind", "name"]

    def __str__(self) -> str:
        return self.name


class IncidentQuerySet(models.QuerySet["Incident"]):
    def open(self) -> "IncidentQuerySet":
        """Those that were told and are not over."""
        return self.filter(closed_at=None).exclude(opened_at=None)


class Incident(models.Model):
    """Something wrong with one subject, from when it was first seen until it healed: one message, one all-clear.

    It is *pending* until it lasted long enough to be told (`opened_at`), and closed when it was not seen for long
    enough. One that heals while it is pending is deleted: nobody was told.
    """

    class Severity(models.TextChoices):
        CRITICAL = "critical"
        WARNING = "warning"
        INFO = "info"

    kind = models.CharField(max_length=40, help_text="of monitoring.alerts.rules.RULES")
    subject = models.CharField(max_length=120, help_text="as node:3, gateway:1, portal")
    name = models.CharField(max_length=120, help_text="of the subject, for people")
    severity = models.CharField(max_length=10, choices=Severity.choices)
    sentence = models.CharField(max_length=400, help_text="what is wrong, as it was seen last")
    mend = models.CharField(max_length=400, blank=True, help_text="what to do about it")
    path = models.CharField(max_length=200, blank=True, help_text="of the page that shows it")
    first_seen_at = models.DateTimeField()
    last_seen_at = models.DateTimeField()
    opened_at = models.DateTimeField(null=True, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    note = models.CharField(max_length=400, blank=True, help_text="of who acknowledged it")

    objects = IncidentQuerySet.as_manager()

    class Meta:
        ordering = ["-first_seen_at", "-pk"]
        constraints = [
            models.UniqueConstraint(fields=["kind", "subject"], condition=Q(closed_at=None), name="incident_open_once"),
        ]
        indexes = [models.Index(fields=["-opened_at"], name="incident_opened")]

    def __str__(self) -> str:
        return f"{self.kind} of {self.name}"


class Delivery(models.Model):
    """One message about an incident to one place; the row is the queue, and it is tried until it is there."""

    class About(models.TextChoices):
        OPENED = "opened"
        CLOSED = "closed"

    class Channel(models.TextChoices):
        MAIL = "mail"
        WEBHOOK = "webhook"

    incident = models.ForeignKey(Incident, on_delete=models.CASCADE, related_name="deliveries")
    about = models.CharField(max_length=10, choices=About.choices)
    channel = models.CharField(max_length=10, choices=Channel.choices)
    recipient = models.CharField(max_length=320, help_text="address, or the webhook's host")
    message = models.CharField(max_length=32, blank=True, help_text="that it is sent with; those of one go together")
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveIntegerField(default=0)
    try_at = models.DateTimeField(null=True, blank=True, help_text="when it is sent, or tried again; empty: sent")
    problem = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["pk"]
        verbose_name_plural = "deliveries"
        constraints = [
            models.UniqueConstraint(fields=["incident", "about", "channel", "recipient"], name="delivery_once"),
        ]
        indexes = [models.Index(fields=["try_at"], condition=Q(try_at__isnull=False), name="delivery_due")]

    def __str__(self) -> str:
        return f"{self.about} of {self.incident_id} to {self.recipient}"


class DriftLook(models.Model):
    """One comparison of the database with the machines: asked for, under way, or over with what it found.

    `found` is a list of the JSON of monitoring.drift.Difference.
    """

    asked_at = models.DateTimeField()
    asked_by = models.CharField(max_length=80)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    machines = models.PositiveIntegerField(default=0, help_text="to be looked at")
    looked_at = models.PositiveIntegerField(default=0, help_text="machines so far")
    found = models.JSONField(default=list)

    class Meta:
        ordering = ["-asked_at"]
        constraints = [
            models.UniqueConstraint(models.Value(1), condition=Q(finished_at=None), name="drift_look_one_at_a_time"),
        ]

    def __str__(self) -> str:
        return f"drift at {self.asked_at:%Y-%m-%d %H:%M:%S}"
