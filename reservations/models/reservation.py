"""What was booked, where it answers, and its containers."""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import DateTimeRangeField, RangeBoundary, RangeOperators
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import F, Func, Q
from django.utils import timezone

from accounts.models import Membership, Role, User, Workspace
from accounts.validators import no_control_characters
from compute.models import Allocation, Forward, Node, Volume
from reservations.models.catalogue import Service, StorageProfile, WorkspaceVolume
from reservations.secrets import SealedJSONField
from reservations.states import FINAL, LIVE, RULES, State

STATES = [(state.value, state.value) for state in State]


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many reservations are due, and for how long the oldest of them; 0 when none is."""

    count: int
    oldest_s: float


def size_text(cores: Decimal, ram_mib: int) -> str:
    """0.5 cores, 2 GiB."""
    ram = f"{ram_mib // 1024} GiB" if ram_mib % 1024 == 0 else f"{ram_mib} MiB"
    return f"{cores.normalize():f} core{'' if cores == 1 else 's'}, {ram}"


class ReservationQuerySet(models.QuerySet["Reservation"]):
    def visible_to(self, user: User) -> "ReservationQuerySet":
        """Those of the workspaces that `user` is a member of."""
        return self.filter(workspace__memberships__user=user)

    def actionable_by(self, user: User) -> "ReservationQuerySet":
        """Those that `user` may act on: all of a workspace for its owners and managers, else what they booked."""
        mine = Membership.objects.filter(user=user)
        led = mine.filter(role__in=[Role.OWNER, Role.MANAGER])
        return self.filter(
            Q(workspace__in=led.values("workspace")) | Q(workspace__in=mine.values("workspace"), created_by=user)
        )

    def live(self) -> "ReservationQuerySet":
        return self.filter(state__in=LIVE)

    def with_volume(self, volume_id: int, start: datetime, end: datetime) -> "ReservationQuerySet":
        """The live ones that have a kept volume at some instant of [start, end)."""
        return self.live().filter(kept_volume=volume_id, start__lt=end, end__gt=start)

    def overlapping(self, since: datetime | None, until: datetime | None) -> "ReservationQuerySet":
        """Those of whose time some lies in [since, until); None has no end.

        The time of one that was over early ends then; one that was cancelled before it began keeps what was booked.
        """
        found = self if until is None else self.filter(start__lt=until)
        if since is None:
            return found
        return found.filter(Q(ended_at=None) | Q(ended_at__gt=since) | Q(ended_at__lte=F("start")), end__gt=since)

    def past(self) -> "ReservationQuerySet":
        return self.filter(state__in=FINAL)

    def due(self, now: datetime) -> "ReservationQuerySet":
        """Those that somebody has to look at now, and nobody is looking at. Ends come before starts."""
        return (
            self.live()
            .filter(look_at__lte=now)
            .filter(Q(claim_expires_at=None) | Q(claim_expires_at__lte=now))
            .order_by(
                models.Case(models.When(state=State.ENDING, then=0), models.When(end__lte=now, then=0), default=1),
                "look_at",
            )
        )

    def backlog(self, now: datetime) -> "Backlog":
        """What waits for a worker: one query."""
        found = self.due(now).order_by().aggregate(count=models.Count("pk"), oldest=models.Min("look_at"))
        oldest = found["oldest"]
        return Backlog(found["count"], (now - oldest).total_seconds() if oldest else 0.0)

    def for_lists(self) -> "ReservationQuerySet":
        """With what a line of a list or of the feed shows and no more, in two queries: whatever else costs one each.

        To make rows of all columns takes most of the time of a list: sealed credentials, terms, a service's guide.
        """
        endpoints = Endpoint.objects.select_related("forward__gateway").only("reservation", *_OF_ADDRESS)
        return (
            self.select_related("service", "workspace", "created_by")
            .only(*_OF_LINE)
            .prefetch_related(models.Prefetch("endpoints", endpoints.order_by("pk")))
        )

    def for_pages(self) -> "ReservationQuerySet":
        """With everything that a page of one shows, in a constant number of queries."""
        return self.select_related("service", "workspace", "created_by", "kept_volume__volume").prefetch_related(
            models.Prefetch("endpoints", Endpoint.objects.select_related("forward__gateway").order_by("pk")),
            models.Prefetch("containers", Container.objects.select_related("node", "volume").order_by("generation")),
        )


_OF_ADDRESS = ("forward__name", "forward__kind", "forward__public_port", "forward__gateway__public_address")
_OF_LINE = (
    *("name", "ram_mib", "cores", "start", "starts_when_taken", "end", "wish", "state", "reason", "deadline"),
    *("progress", "running_since", "ended_at", "created_at", "key"),
    *("service__name", "service__icon", "workspace__name", "workspace__personal_of", "created_by__username"),
)


class Reservation(models.Model):
    """A booking of a service for a workspace over [start, end), and how far it got."""

    class Wish(models.TextChoices):
        RUN = "run"
        STOP = "stop"

    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="reservations")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="reservations"
    )
    name = models.CharField(max_length=60, blank=True, validators=[no_control_characters])
    service = models.ForeignKey(Service, on_delete=models.PROTECT)
    image = models.CharField(max_length=300, help_text="by digest, as it was when it was booked")
    version = models.CharField(max_length=40, blank=True, help_text="of the service; empty: its usual one")
    options = models.JSONField(default=dict, blank=True, help_text="environment values that its customer chose")
    batch = models.UUIDField(null=True, blank=True, editable=False, help_text="that of all copies booked at once")
    ram_mib = models.PositiveIntegerField("RAM (MiB)")
    cores = models.DecimalField(max_digits=6, decimal_places=2)
    storage = models.CharField(max_length=2, choices=StorageProfile.Code.choices)
    storage_gb = models.PositiveIntegerField(validators=[MaxValueValidator(10_000)])
    kept_volume = models.ForeignKey(WorkspaceVolume, null=True, blank=True, on_delete=models.PROTECT)
    start = models.DateTimeField()
    starts_when_taken = models.BooleanField(
        default=False, editable=False, help_text="while it is offered: its time begins when the offer is taken"
    )
    end = models.DateTimeField()
    wish = models.CharField(max_length=4, choices=Wish.choices, default=Wish.RUN)
    state = models.CharField(max_length=10, choices=STATES, default=State.BOOKED, editable=False)
    reason = models.CharField(max_length=400, blank=True, help_text="why it waits or failed, for the customer")
    failure = models.CharField(max_length=400, blank=True, editable=False, help_text="set when it ends as failed")
    generation = models.PositiveIntegerField(default=1, editable=False)
    key = models.UUIDField(default=uuid.uuid4, editable=False, help_text="on its containers' labels: ids may repeat")
    credentials = SealedJSONField(default=dict, editable=False)
    price = models.DecimalField(max_digits=12, decimal_places=2, help_text="quoted when it was booked")
    terms = models.JSONField(default=dict, editable=False, help_text="that the quote was made with; billing reads them")
    settled_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="when all of its cost was in the ledger; billing writes it"
    )
    created_at = models.DateTimeField()
    running_since = models.DateTimeField(null=True, blank=True, editable=False)
    ended_at = models.DateTimeField(null=True, blank=True, editable=False)

    # what the reconcile loop works with
    deadline = models.DateTimeField(null=True, blank=True, editable=False)
    look_at = models.DateTimeField(null=True, blank=True, editable=False)
    claim_token = models.UUIDField(null=True, blank=True, editable=False)
    claim_expires_at = models.DateTimeField(null=True, blank=True, editable=False)
    claim_owner = models.CharField(max_length=120, blank=True, editable=False, help_text="the worker")
    attempts = models.PositiveIntegerField(default=0, editable=False)
    restarts = models.PositiveIntegerField(default=0, editable=False)
    restart_asked_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="it is restarted at the next look; any other move forgets it"
    )
    progress = models.PositiveSmallIntegerField(null=True, blank=True, editable=False, help_text="% of the image")

    objects = ReservationQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(
                condition=Q(end__gt=F("start")),
                name="reservation_ends_after_start",
                violation_error_message="The end must be after the start.",
            ),
            models.CheckConstraint(condition=Q(state__in=[s.value for s in State]), name="reservation_state_known"),
            ExclusionConstraint(
                name="reservation_volume_once",
                expressions=[
                    ("kept_volume", RangeOperators.EQUAL),
                    (
                        Func(
                            "start",
                            "end",
                            RangeBoundary(),
                            function="TSTZRANGE",
                            output_field=DateTimeRangeField(),
                        ),
                        RangeOperators.OVERLAPS,
                    ),
                ],
                condition=Q(kept_volume__isnull=False, state__in=sorted(s.value for s in LIVE)),
                violation_error_message="This volume is booked by another reservation at that time.",
            ),
        ]
        indexes = [
            models.Index(
                fields=["look_at"],
                condition=Q(state__in=sorted(s.value for s in LIVE)),
                name="reservation_due",
            ),
            models.Index(
                fields=["end"],
                condition=Q(state__in=sorted(s.value for s in LIVE)),
                name="reservation_live_end",
            ),
            models.Index(fields=["workspace", "-created_at"], name="reservation_of_workspace"),
            models.Index(fields=["workspace", "state"], condition=Q(settled_at=None), name="reservation_unsettled"),
        ]

    def __str__(self) -> str:
        return f"#{self.pk} {self.title}"

    @property
    def title(self) -> str:
        return self.name or self.service.name

    @property
    def is_live(self) -> bool:
        return State(self.state) in LIVE

    @property
    def is_moving(self) -> bool:
        return State(self.state).moving

    @property
    def is_changing(self) -> bool:
        """Whether it moves, its start has come, or it has a wish that is not fulfilled yet."""
        stopping = self.state == State.RUNNING and self.wish == self.Wish.STOP
        resuming = self.state == State.STOPPED and self.wish == self.Wish.RUN
        due = self.state == State.BOOKED and self.start <= timezone.now()
        return self.is_moving or stopping or resuming or due

    @property
    def state_sentence(self) -> str:
        return RULES[State(self.state)].sentence

    @property
    def length(self) -> timedelta:
        """How long it runs; while it is only offered, and its time begins when it is taken, it is held for longer."""
        if self.state == State.OFFERED and self.starts_when_taken and self.deadline:
            return self.end - self.deadline
        return self.end - self.start

    @property
    def current_container(self) -> "Container | None":
        """The container of today's generation (from the prefetched rows where there are any)."""
        return next((c for c in self.containers.all() if c.generation == self.generation), None)

    @property
    def node_name(self) -> str | None:
        container = self.current_container
        return container.node.name if container else None

    @property
    def notes(self) -> list[str]:
        """What its owner should know although it runs: that its storage is not well."""
        container = self.current_container
        return [container.volume.problem] if container and container.volume and container.volume.problem else []

    @property
    def size_text(self) -> str:
        return size_text(self.cores, self.ram_mib)

    @property
    def step_text(self) -> str:
        """What is going on while it starts."""
        if self.state != State.STARTING:
            return self.state_sentence
        if self.progress is not None and self.progress < 100:
            return f"The node is fetching the image ({self.progress} %)."
        return "The container is being started; it is ready once it answers on its port."

    @property
    def connect_commands(self) -> list[str]:
        """How to connect, ready to be copied; empty while there is no address."""
        endpoints = list(self.endpoints.all())
        if not endpoints:
            return []
        values = {"host": endpoints[0].host, "port": str(endpoints[0].port), **self.credentials}
        values |= {f"port_{endpoint.name}": str(endpoint.port) for endpoint in endpoints}
        return [template.format_map(_Known(values)) for template in self.service.connect]


class _Known(dict[str, str]):
    """Values for a template; what is not known (credentials that cannot be read any more) is a question mark."""

    def __missing__(self, name: str) -> str:
        return "?"


class Endpoint(models.Model):
    """Where a reservation answers: a forward that belongs to it."""

    reservation = models.ForeignKey(Reservation, on_delete=models.CASCADE, related_name="endpoints")
    forward = models.OneToOneField(Forward, on_delete=models.PROTECT, related_name="endpoint")

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.name} {self.address}"

    @property
    def name(self) -> str:
        return self.forward.name

    @property
    def kind(self) -> str:
        return self.forward.kind

    @property
    def host(self) -> str:
        return self.forward.gateway.public_address

    @property
    def port(self) -> int:
        return self.forward.public_port

    @property
    def container_port(self) -> int:
        return self.forward.container_port

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}/" if self.kind == Forward.Kind.HTTP else ""


class ContainerQuerySet(models.QuerySet["Container"]):
    def present(self) -> "ContainerQuerySet":
        """Those that may still be on a machine, or will be."""
        return self.filter(gone_at=None)

    def current(self) -> "ContainerQuerySet":
        """Those of their reservation's generation of today."""
        return self.filter(generation=F("reservation__generation"))

    def left_behind(self) -> "ContainerQuerySet":
        """Those whose reservation has moved, and that may still be on their machine."""
        return self.present().filter(generation__lt=F("reservation__generation"))


class Container(models.Model):
    """One container of one generation of a reservation, on one node, until it was seen to be gone."""

    reservation = models.ForeignKey(Reservation, on_delete=models.CASCADE, related_name="containers")
    generation = models.PositiveIntegerField()
    name = models.CharField(max_length=20, default="main")
    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="containers")
    allocation = models.OneToOneField(Allocation, on_delete=models.PROTECT, related_name="container")
    volume = models.ForeignKey(Volume, null=True, blank=True, on_delete=models.PROTECT, related_name="containers")
    engine_id = models.CharField(max_length=64, blank=True)
    presence = models.CharField(max_length=10, default="absent")
    exit_code = models.IntegerField(null=True, blank=True)
    observed_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="the end that its node was told")
    gone_at = models.DateTimeField(null=True, blank=True, help_text="seen to be gone, with network and mount")

    objects = ContainerQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["reservation", "generation", "name"], name="container_once"),
        ]
        indexes = [models.Index(fields=["node"], condition=Q(gone_at=None), name="container_present")]

    def __str__(self) -> str:
        return self.machine_name

    @property
    def machine_name(self) -> str:
        return f"berth-{self.reservation_id}-{self.generation}-{self.name}"

    @property
    def touched(self) -> bool:
        """Whether anything of it may be on a machine."""
        return self.allocation.taken_at is not None and self.gone_at is None
