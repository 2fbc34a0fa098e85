"""The waiting list: what somebody wants as soon as there is room for it."""

from django.conf import settings
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Case, Count, OuterRef, Q, Subquery, When

from accounts.models import User, Workspace
from accounts.validators import no_control_characters
from reservations.models.catalogue import Service, StorageProfile, WorkspaceVolume
from reservations.models.reservation import Reservation, size_text

MOST_LAPSED = 3  # offers that were not taken, until it is taken out of the line


class WaitingEntryQuerySet(models.QuerySet["WaitingEntry"]):
    def visible_to(self, user: User) -> "WaitingEntryQuerySet":
        """Those of the workspaces that `user` is a member of."""
        return self.filter(workspace__memberships__user=user)

    def open(self) -> "WaitingEntryQuerySet":
        """Those that wait or have an offer."""
        return self.filter(closed_at=None)

    def in_line(self) -> "WaitingEntryQuerySet":
        """Those that wait for an offer."""
        return self.open().filter(offer=None)

    def with_place(self) -> "WaitingEntryQuerySet":
        """With `place`: 1 for the first of the whole line; None for what is not in line."""
        not_behind = Q(place_at__lt=OuterRef("place_at")) | Q(place_at=OuterRef("place_at"), pk__lte=OuterRef("pk"))
        counted = WaitingEntry.objects.in_line().filter(not_behind).order_by().values("closed_at")
        place = Subquery(counted.annotate(n=Count("pk")).values("n"))
        return self.annotate(counted_place=Case(When(closed_at=None, offer=None, then=place)))


class WaitingEntry(models.Model):
    """A booking that did not fit, in line since `created_at`; its offer is a reservation that is held for a while."""

    class Outcome(models.TextChoices):
        TAKEN = "taken", "was booked"
        CANCELLED = "cancelled", "was cancelled"
        LAPSED = "lapsed", "its offers were not taken, or its time passed"

    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="waiting")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    name = models.CharField(max_length=60, blank=True, validators=[no_control_characters])
    service = models.ForeignKey(Service, on_delete=models.PROTECT)
    version = models.CharField(max_length=40, blank=True)
    options = models.JSONField(default=dict, blank=True)
    ram_mib = models.PositiveIntegerField("RAM (MiB)")
    cores = models.DecimalField(max_digits=6, decimal_places=2)
    storage = models.CharField(max_length=2, choices=StorageProfile.Code.choices)
    storage_gb = models.PositiveIntegerField(null=True, blank=True, validators=[MaxValueValidator(10_000)])
    kept_volume = models.ForeignKey(WorkspaceVolume, null=True, blank=True, on_delete=models.PROTECT)
    start = models.DateTimeField(null=True, blank=True, help_text="empty: as soon as there is room")
    length = models.DurationField()
    created_at = models.DateTimeField()
    place_at = models.DateTimeField(help_text="its place in the line: when it joined, or its last offer lapsed")
    offer = models.OneToOneField(
        Reservation, null=True, blank=True, on_delete=models.SET_NULL, related_name="waiting_entry"
    )
    offers_lapsed = models.PositiveIntegerField(default=0)
    closed_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=10, choices=Outcome.choices, blank=True)
    reason = models.CharField(max_length=400, blank=True, help_text="why it still waits, for the customer")

    objects = WaitingEntryQuerySet.as_manager()

    class Meta:
        ordering = ["place_at", "pk"]
        verbose_name_plural = "waiting entries"
        constraints = [
            models.CheckConstraint(
                condition=Q(closed_at=None, outcome="") | Q(closed_at__isnull=False) & ~Q(outcome=""),
                name="waiting_entry_closed_has_outcome",
            ),
        ]
        indexes = [
            models.Index(fields=["place_at", "id"], condition=Q(closed_at=None), name="waiting_entry_line"),
            models.Index(fields=["workspace", "-created_at"], name="waiting_entry_of_workspace"),
        ]

    def __str__(self) -> str:
        return f"{self.service} for {self.workspace}, since {self.created_at:%Y-%m-%d %H:%M} UTC"

    @property
    def title(self) -> str:
        return self.name or self.service.name

    @property
    def place(self) -> int | None:
        """In the whole line, from 1; only with `with_place`, and None for what is not in line."""
        place: int | None = getattr(self, "counted_place", None)
        return place

    @property
    def place_text(self) -> str:
        """1st, 2nd, 3rd, 11th."""
        place = self.place or 0
        teens = 10 < place % 100 < 20
        return f"{place}{'th' if teens else {1: 'st', 2: 'nd', 3: 'rd'}.get(place % 10, 'th')}"

    @property
    def size_text(self) -> str:
        return size_text(self.cores, self.ram_mib)

    @property
    def may_still_lapse(self) -> bool:
        """Whether it stays in line if one more offer of it lapses."""
        return self.offers_lapsed + 1 < MOST_LAPSED
