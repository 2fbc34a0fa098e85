"""What can be booked and what was booked."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypedDict

from django.conf import settings
from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import DateTimeRangeField, RangeBoundary, RangeOperators
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Func, Q
from django.db.models.functions import Now

from accounts.models import User, Workspace
from accounts.validators import no_control_characters
from compute.models import Allocation, Forward, Node, Volume
from reservations.secrets import SealedJSONField
from reservations.states import FINAL, LIVE, RULES, State

STATES = [(state.value, state.value) for state in State]


class PortOfService(TypedDict):
    """A port that a service listens on; `kind` is http, tcp or ssh."""

    name: str
    kind: str
    port: int


class Size(models.Model):
    """How much of a node a reservation gets."""

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=40)
    cores = models.DecimalField(max_digits=6, decimal_places=2, validators=[MinValueValidator(Decimal("0.1"))])
    ram_mib = models.PositiveIntegerField("RAM (MiB)", validators=[MinValueValidator(16)])
    active = models.BooleanField(default=True)

    class Meta:
        ordering = ["ram_mib", "cores"]
        constraints = [models.CheckConstraint(condition=Q(cores__gt=0) & Q(ram_mib__gt=0), name="size_is_something")]

    def __str__(self) -> str:
        return self.name


class StorageProfile(models.Model):
    """Where a reservation's data lives and for how long."""

    class Code(models.TextChoices):
        C1 = "C1", "C1: on the node, removed at the end"
        C2 = "C2", "C2: on a storage server, removed at the end"
        C3 = "C3", "C3: on a storage server, kept"

    code = models.CharField(max_length=2, choices=Code.choices, primary_key=True)
    name = models.CharField(max_length=40)
    description = models.CharField(max_length=400)
    default_gb = models.PositiveIntegerField(default=1, validators=[MinValueValidator(1)])
    max_gb = models.PositiveIntegerField(default=20)
    active = models.BooleanField(default=True)

    class Meta:
        ordering = ["code"]

    def __str__(self) -> str:
        return self.name


class Service(models.Model):
    """Something that can be booked: an image and how to run, reach and protect it."""

    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=40)
    description = models.CharField(max_length=300)
    icon = models.CharField(max_length=40, default="box", help_text="the name of a Tabler icon")
    image = models.CharField(max_length=200, help_text="upstream repository:tag, as library/nginx:1.27")
    digest = models.CharField(max_length=80, blank=True, help_text="in the private registry; empty: not there")
    upstream_digest = models.CharField(max_length=80, blank=True, help_text="what was copied")
    mirrored_at = models.DateTimeField(null=True, blank=True)
    ports = models.JSONField(default=list, help_text='[{"name": "web", "kind": "http", "port": 80}]')
    environment = models.JSONField(default=dict, blank=True, help_text="{password} and such are filled in")
    command = models.JSONField(default=list, blank=True)
    credentials = models.JSONField(default=dict, blank=True, help_text='{"password": "random:24"}')
    connect = models.JSONField(default=list, blank=True, help_text="commands, with {host}, {port_NAME}, {password}")
    mount_path = models.CharField(max_length=200, blank=True)
    capabilities = models.JSONField(default=list, blank=True)
    pids = models.PositiveIntegerField(default=512)
    min_ram_mib = models.PositiveIntegerField(default=64)
    default_size = models.ForeignKey(Size, on_delete=models.PROTECT)
    active = models.BooleanField(default=True)
    position = models.PositiveIntegerField(default=100)

    class Meta:
        ordering = ["position", "name"]

    def __str__(self) -> str:
        return self.name

    @property
    def available(self) -> bool:
        return self.active and bool(self.digest)

    @property
    def unavailable_reason(self) -> str:
        """Why it cannot be booked; empty when it can."""
        if not self.active:
            return "Not offered at the moment."
        if not self.digest:
            return "Its image is not in the private registry yet; an operator can mirror it."
        return ""

    @property
    def reference(self) -> str:
        """The image as nodes pull it: by digest, from the private registry."""
        repository = self.image.rsplit(":", 1)[0]
        prefix = f"{settings.BERTH_REGISTRY}/" if settings.BERTH_REGISTRY else ""
        return f"{prefix}{repository}@{self.digest}"


class WorkspaceVolume(models.Model):
    """A kept volume (C3) that a workspace owns and can attach to its next reservation."""

    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="volumes")
    name = models.CharField(max_length=60, validators=[no_control_characters])
    volume = models.OneToOneField(Volume, on_delete=models.PROTECT, related_name="owned")
    service = models.ForeignKey(Service, null=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["workspace", "name"],
                name="workspace_volume_name_once",
                violation_error_message="The workspace has a volume of this name already.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.volume.size_gb} GB)"


class ReservationQuerySet(models.QuerySet["Reservation"]):
    def visible_to(self, user: User) -> "ReservationQuerySet":
        """Those of the workspaces that `user` is a member of."""
        return self.filter(workspace__memberships__user=user)

    def live(self) -> "ReservationQuerySet":
        return self.filter(state__in=LIVE)

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

    def for_pages(self) -> "ReservationQuerySet":
        """With everything that a list or page shows, in a constant number of queries."""
        return self.select_related("service", "workspace", "created_by", "kept_volume__volume").prefetch_related(
            models.Prefetch("endpoints", Endpoint.objects.select_related("forward__gateway").order_by("pk")),
            models.Prefetch("containers", Container.objects.select_related("node").order_by("generation")),
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
    ram_mib = models.PositiveIntegerField("RAM (MiB)")
    cores = models.DecimalField(max_digits=6, decimal_places=2)
    storage = models.CharField(max_length=2, choices=StorageProfile.Code.choices)
    storage_gb = models.PositiveIntegerField(validators=[MaxValueValidator(10_000)])
    kept_volume = models.ForeignKey(WorkspaceVolume, null=True, blank=True, on_delete=models.PROTECT)
    start = models.DateTimeField()
    end = models.DateTimeField()
    wish = models.CharField(max_length=4, choices=Wish.choices, default=Wish.RUN)
    state = models.CharField(max_length=10, choices=STATES, default=State.BOOKED, editable=False)
    reason = models.CharField(max_length=400, blank=True, help_text="why it waits or failed, for the customer")
    failure = models.CharField(max_length=400, blank=True, editable=False, help_text="set when it ends as failed")
    generation = models.PositiveIntegerField(default=1, editable=False)
    credentials = SealedJSONField(default=dict, editable=False)
    price = models.DecimalField(max_digits=12, decimal_places=2, help_text="quoted when it was booked")
    created_at = models.DateTimeField()
    running_since = models.DateTimeField(null=True, blank=True, editable=False)
    ended_at = models.DateTimeField(null=True, blank=True, editable=False)

    # what the reconcile loop works with
    deadline = models.DateTimeField(null=True, blank=True, editable=False)
    look_at = models.DateTimeField(null=True, blank=True, editable=False)
    claim_token = models.UUIDField(null=True, blank=True, editable=False)
    claim_expires_at = models.DateTimeField(null=True, blank=True, editable=False)
    attempts = models.PositiveIntegerField(default=0, editable=False)
    restarts = models.PositiveIntegerField(default=0, editable=False)
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
            models.Index(fields=["workspace", "-created_at"], name="reservation_of_workspace"),
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
        """Whether it moves, or has a wish that is not fulfilled yet."""
        stopping = self.state == State.RUNNING and self.wish == self.Wish.STOP
        return self.is_moving or stopping or (self.state == State.STOPPED and self.wish == self.Wish.RUN)

    @property
    def state_sentence(self) -> str:
        return RULES[State(self.state)].sentence

    @property
    def length(self) -> timedelta:
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
    def size_text(self) -> str:
        ram = f"{self.ram_mib // 1024} GiB" if self.ram_mib % 1024 == 0 else f"{self.ram_mib} MiB"
        return f"{self.cores.normalize():f} core{'' if self.cores == 1 else 's'}, {ram}"

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
        return [template.format(**values) for template in self.service.connect]


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
    gone_at = models.DateTimeField(null=True, blank=True, help_text="seen to be gone, with network and mount")

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
        indexes = [models.Index(fields=["reservation", "at"], name="event_of_reservation")]

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
    """Something with our label on a node that no live reservation owns, since it was first seen there."""

    node = models.ForeignKey(Node, on_delete=models.CASCADE)
    name = models.CharField(max_length=120)
    first_seen_at = models.DateTimeField(db_default=Now())

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
