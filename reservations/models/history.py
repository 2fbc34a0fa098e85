"""What happened: events, served time; and what the loops remember."""

from django.conf import settings
from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import DateTimeRangeField, RangeOperators
from django.db import models
from django.db.models.functions import Now

from compute.models import Node
from reservations.models.reservation import Reservation


class Event(models.Model):
    """The history of a reservation: one row per transition, and notes in between."""

    reservation = models.ForeignKey(Reservation, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField()
    old_state = models.CharField(max_length=10, blank=True)
    new_state = models.CharField(max_length=10, blank=True, help_text="empty: a note, no transition")
    text = models.CharField(max_length=400)
    by = models.CharField(max_length=80)

    class Meta:
        ordering = ["at", "pk"]
        indexes = [
            models.Index(fields=["reservation", "at"], name="event_of_reservation"),
            models.Index(fields=["at"], name="event_at"),
        ]

    def __str__(self) -> str:
        return self.text


class UsagePeriod(models.Model):
    """When a reservation really served. The bill is computed from these and nothing else."""

    reservation = models.ForeignKey(Reservation, on_delete=models.PROTECT, related_name="usage_periods")
    generation = models.PositiveIntegerField()
    cores = models.DecimalField(max_digits=6, decimal_places=2)
    during = DateTimeRangeField(help_text="open while it serves")

    class Meta:
        constraints = [
            ExclusionConstraint(
                name="usage_period_no_overlap",
                expressions=[("reservation", RangeOperators.EQUAL), ("during", RangeOperators.OVERLAPS)],
            ),
        ]

    def __str__(self) -> str:
        return f"reservation {self.reservation_id}: {self.during}"


class Orphan(models.Model):
    """Something with our label on a node that no live reservation owns, since it was first seen there.

    What the rows cannot know (they are of an older backup) is quarantined: stopped, kept, and shown to operators.
    """

    node = models.ForeignKey(Node, on_delete=models.CASCADE)
    name = models.CharField(max_length=120)
    first_seen_at = models.DateTimeField(db_default=Now())
    quarantined_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["node", "name"], name="orphan_once")]

    def __str__(self) -> str:
        return f"{self.name} on {self.node}"


class IdempotencyKey(models.Model):
    """The first answer to a POST with this Idempotency-Key, so that a repeated one books nothing twice."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    key = models.CharField(max_length=200)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of the body")
    reservation = models.ForeignKey(Reservation, on_delete=models.CASCADE)
    answer = models.JSONField(null=True)
    created_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="idempotency_key_once")]

    def __str__(self) -> str:
        return self.key
