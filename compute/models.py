"""Facts about the machines. Constraints hold what must never happen; `capacity` alone writes allocations."""

import uuid
from datetime import datetime

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import DateTimeRangeField, RangeOperators
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q

from compute.spec import ForwardSpec, RemoteStore, VolumeSpec

machine_name = RegexValidator(
    r"\A[a-z0-9][a-z0-9.-]{0,62}\Z", "A name has lower-case letters, digits, dots and dashes, at most 63."
)
not_an_option = RegexValidator(r"\A[^-\s][^\s]*\Z", "A value must not begin with a dash or contain a space.")


class Gateway(models.Model):
    """The one way in to a zone: it forwards public ports to the nodes behind it."""

    class Driver(models.TextChoices):
        IPTABLES = "iptables", "iptables: DNAT on a machine of its own"
        DIRECT = "direct", "direct: the nodes' own published ports are the public ones"

    name = models.CharField(max_length=63, unique=True, validators=[machine_name])
    driver = models.CharField(max_length=10, choices=Driver.choices, default=Driver.IPTABLES)
    public_address = models.CharField(max_length=253, validators=[not_an_option])
    private_subnet = models.CharField(max_length=43, blank=True, help_text="The nodes' network, as 10.0.0.0/24")
    ssh = models.CharField("SSH target", max_length=253, blank=True, help_text="user@host; empty: this machine")
    port_first = models.PositiveIntegerField(default=20_000, validators=[MinValueValidator(1024)])
    port_last = models.PositiveIntegerField(default=29_999, validators=[MaxValueValidator(65_535)])
    applied_at = models.DateTimeField(null=True, blank=True, editable=False)
    checked_at = models.DateTimeField(null=True, blank=True, editable=False)
    drift = models.PositiveIntegerField(default=0, editable=False, help_text="rules that differed at the last check")
    drift_total = models.PositiveIntegerField(default=0, editable=False)
    problem = models.CharField(max_length=300, blank=True, editable=False)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(port_first__lte=F("port_last")) & Q(port_first__gte=1024) & Q(port_last__lte=65_535),
                name="gateway_port_range",
                violation_error_message="The public ports must be a range within 1024 to 65535.",
            )
        ]

    def __str__(self) -> str:
        return self.name


class StorageServer(models.Model):
    """Keeps the images of remote volumes; nodes and portal reach it by sftp only."""

    name = models.CharField(max_length=63, unique=True, validators=[machine_name])
    address = models.CharField(max_length=253, validators=[not_an_option])
    account = models.CharField(max_length=63, default="berth", validators=[not_an_option])
    path = models.CharField(max_length=200, default="/volumes", validators=[not_an_option])
    capacity_gb = models.PositiveIntegerField(default=1000)
    active = models.BooleanField(default=True)
    last_seen_at = models.DateTimeField(null=True, blank=True, editable=False)
    problem = models.CharField(max_length=300, blank=True, editable=False, help_text="why its last probe failed")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def spec(self) -> RemoteStore:
        return RemoteStore(self.account, self.address, self.path)


class NodeQuerySet(models.QuerySet["Node"]):
    def present(self) -> "NodeQuerySet":
        """All that were not removed."""
        return self.exclude(state=Node.State.REMOVED)

    def answering(self) -> "NodeQuerySet":
        """Present ones whose engine can be asked to do something now, as `Node.answers`."""
        return self.present().filter(health__in=Node.ANSWERING)

    def well(self) -> "NodeQuerySet":
        """Present ones that answer and have nothing old on them."""
        return self.present().filter(health=Node.Health.OK)

    def with_ssh(self) -> "NodeQuerySet":
        """Those of which Berth reaches more than the engine."""
        return self.exclude(ssh="")

    def lending(self) -> "NodeQuerySet":
        """Nodes that may be given something new."""
        return self.filter(state=Node.State.ACTIVE, health=Node.Health.OK, disk_problem="")


class Node(models.Model):
    """A private compute node with a Docker Engine."""

    class State(models.TextChoices):
        ACTIVE = "active"
        CORDONED = "cordoned", "cordoned: nothing new"
        DRAINING = "draining", "draining: nothing new, waiting for what is there to end"
        REMOVED = "removed", "removed: kept for the history only"

    class Health(models.TextChoices):
        OK = "ok"
        UNKNOWN = "unknown", "unknown: no answer for some seconds; nothing on it is touched or moved"
        LOST = "lost", "lost: no answer for so long that what ran on it is started elsewhere"
        RETURNING = "returning", "returning: it answers again; old copies are removed before it is given anything"

    ANSWERING = (Health.OK, Health.RETURNING)

    name = models.CharField(max_length=63, unique=True, validators=[machine_name])
    address = models.CharField("private address", max_length=253, validators=[not_an_option])
    engine_url = models.CharField(max_length=253, help_text="tcp://host:2376 (mutual TLS) or unix:///…")
    ssh = models.CharField(
        "SSH target", max_length=253, blank=True, help_text="user@host; empty: only its engine can be reached"
    )
    gateway = models.ForeignKey(Gateway, on_delete=models.PROTECT, related_name="nodes")
    ram_mib = models.PositiveIntegerField("RAM lent (MiB)", validators=[MinValueValidator(1)])
    cores = models.DecimalField("cores lent", max_digits=6, decimal_places=2, validators=[MinValueValidator(0.01)])
    state = models.CharField(max_length=10, choices=State.choices, default=State.ACTIVE)
    health = models.CharField(max_length=10, choices=Health.choices, default=Health.OK)
    health_reason = models.CharField(max_length=300, blank=True)
    failures = models.PositiveIntegerField(default=0, help_text="probes failed in a row")
    last_seen_at = models.DateTimeField(null=True, blank=True)
    lost_at = models.DateTimeField(null=True, blank=True, editable=False, help_text="when it was declared lost")
    probe_until = models.DateTimeField(null=True, blank=True, editable=False, help_text="a probe is on its way")
    runtime = models.CharField(
        "container runtime", max_length=40, blank=True, help_text="as runsc (gVisor); empty: the engine's own"
    )
    guard_checked_at = models.DateTimeField(null=True, blank=True, editable=False)
    guard_problem = models.CharField(
        max_length=300, blank=True, editable=False, help_text="what is wrong with the node's own timer or firewall"
    )
    disk_problem = models.CharField(
        max_length=300, blank=True, editable=False, help_text="its disk is nearly full: it gets nothing new"
    )
    tls_expires_at = models.DateTimeField(null=True, blank=True, editable=False)
    engine_version = models.CharField(max_length=60, blank=True)
    containers_found = models.PositiveIntegerField(null=True, blank=True)

    objects = NodeQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=Q(ram_mib__gt=0) & Q(cores__gt=0), name="node_lends_something"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def answers(self) -> bool:
        """Whether its engine can be asked to do something now (a returning one gets nothing new yet)."""
        return self.health in self.ANSWERING


class AllocationQuerySet(models.QuerySet["Allocation"]):
    def held(self) -> "AllocationQuerySet":
        """Not released yet: planned, in use, or overdue."""
        return self.filter(released_at=None)


class Allocation(models.Model):
    """RAM and cores of a node over a window. After its end it stays held until the container was seen to be gone."""

    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="allocations")
    ram_mib = models.PositiveIntegerField()
    cores = models.DecimalField(max_digits=6, decimal_places=2)
    during = DateTimeRangeField()
    taken_at = models.DateTimeField(null=True, blank=True, help_text="when the start was begun: in use from then on")
    released_at = models.DateTimeField(null=True, blank=True)

    objects = AllocationQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(ram_mib__gt=0) & Q(cores__gt=0), name="allocation_holds_something"),
            models.CheckConstraint(condition=Q(during__isempty=False), name="allocation_window_not_empty"),
        ]
        indexes = [
            models.Index(fields=["node"], condition=Q(released_at=None), name="allocation_held"),
            models.Index(fields=["released_at"], name="allocation_released"),
        ]

    def __str__(self) -> str:
        return f"{self.ram_mib} MiB, {self.cores} cores on node {self.node_id}"


class LoadStep(models.Model):
    """What a node has lent from `at` until its next step: the sum of its held allocations as a step function.

    Kept by `capacity` in the transaction that changes an allocation, so that the peak of a thousand nodes is a
    few index reads instead of a sum over every allocation (docs/adr/0003).
    """

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="steps")
    at = models.DateTimeField()
    ram_mib = models.IntegerField()
    cores = models.DecimalField(max_digits=8, decimal_places=2)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["node", "at"], include=["ram_mib", "cores"], name="load_step_once"),
            models.CheckConstraint(condition=Q(ram_mib__gte=0) & Q(cores__gte=0), name="load_step_not_negative"),
        ]

    def __str__(self) -> str:
        return f"node {self.node_id} from {self.at}: {self.ram_mib} MiB, {self.cores} cores"


class ForwardQuerySet(models.QuerySet["Forward"]):
    def wanted(self) -> "ForwardQuerySet":
        return self.filter(wanted=True)

    def unwant(self) -> int:
        """The gateway should not have these rules any more.

        What was wanted may be there, even if its apply gave no answer: it counts as applied until it was taken away.
        """
        return self.filter(wanted=True).update(wanted=False, applied=True)

    def held(self) -> "ForwardQuerySet":
        return self.filter(released_at=None)


class Forward(models.Model):
    """A public port that leads to a container's port. Held for its window and a rest after it."""

    class Kind(models.TextChoices):
        HTTP = "http"
        TCP = "tcp"
        SSH = "ssh"

    gateway = models.ForeignKey(Gateway, on_delete=models.PROTECT, related_name="forwards")
    public_port = models.PositiveIntegerField()
    node = models.ForeignKey(Node, on_delete=models.PROTECT, related_name="forwards")
    node_port = models.PositiveIntegerField()
    container_port = models.PositiveIntegerField()
    name = models.CharField(max_length=30, help_text="what listens: web, redis, ssh")
    kind = models.CharField(max_length=5, choices=Kind.choices, default=Kind.TCP)
    during = DateTimeRangeField()
    wanted = models.BooleanField(default=False, help_text="the gateway should have this rule now")
    applied = models.BooleanField(default=False, help_text="the gateway has this rule, as far as we know")
    cut = models.BooleanField(
        default=False, help_text="it led elsewhere: those connections are ended at the next apply"
    )
    released_at = models.DateTimeField(null=True, blank=True)

    objects = ForwardQuerySet.as_manager()

    class Meta:
        constraints = [
            ExclusionConstraint(
                name="forward_public_port_once",
                expressions=[
                    ("gateway", RangeOperators.EQUAL),
                    ("public_port", RangeOperators.EQUAL),
                    ("during", RangeOperators.OVERLAPS),
                ],
                violation_error_message="This public port is taken at that time.",
            ),
            ExclusionConstraint(
                name="forward_node_port_once",
                expressions=[
                    ("node", RangeOperators.EQUAL),
                    ("node_port", RangeOperators.EQUAL),
                    ("during", RangeOperators.OVERLAPS),
                ],
                violation_error_message="This port of the node is taken at that time.",
            ),
        ]
        indexes = [
            models.Index(fields=["gateway"], condition=Q(wanted=True), name="forward_wanted"),
            models.Index(fields=["released_at"], name="forward_released"),
        ]

    def __str__(self) -> str:
        return f"{self.public_port} → {self.node_id}:{self.node_port}"

    @property
    def spec(self) -> ForwardSpec:
        return ForwardSpec(self.gateway.public_address, self.public_port, self.node.address, self.node_port)

    @property
    def opens_at(self) -> datetime:
        return self.during.lower  # type: ignore[no-any-return]  # psycopg's Range is not generic over datetime here


class Volume(models.Model):
    """Storage of a fixed size. The image is on the node (C1) or on a storage server (C2, C3)."""

    class State(models.TextChoices):
        DETACHED = "detached"
        ATTACHED = "attached", "attached to a node, as far as we know"
        REMOVING = "removing", "to be removed from its storage server"
        REMOVED = "removed"

    size_gb = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    kept = models.BooleanField(default=False, help_text="outlives its reservation (C3)")
    node = models.ForeignKey(
        Node, null=True, blank=True, on_delete=models.PROTECT, help_text="where it is, or is attached, now"
    )
    server = models.ForeignKey(StorageServer, null=True, blank=True, on_delete=models.PROTECT)
    state = models.CharField(max_length=10, choices=State.choices, default=State.DETACHED)
    created_at = models.DateTimeField(auto_now_add=True)
    formatted_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="first attached; from then on it is never made anew"
    )
    uuid = models.UUIDField(
        null=True, blank=True, editable=False, default=uuid.uuid4, help_text="of its file system: only it is mounted"
    )
    problem = models.CharField(max_length=300, blank=True, editable=False, help_text="why it is degraded, for people")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(size_gb__gt=0), name="volume_has_a_size"),
            models.CheckConstraint(
                condition=Q(kept=False) | Q(server__isnull=False), name="volume_kept_is_on_a_storage_server"
            ),
        ]

    def __str__(self) -> str:
        return self.machine_name

    @property
    def machine_name(self) -> str:
        return f"vol-{self.pk}"

    @property
    def spec(self) -> VolumeSpec:
        server = self.server.spec if self.server else None
        fresh = self.formatted_at is None
        return VolumeSpec(self.machine_name, self.size_gb, server, fresh=fresh, uuid=str(self.uuid or ""))


class Sample(models.Model):
    """What one probe of a node saw."""

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="samples")
    at = models.DateTimeField()
    reachable = models.BooleanField()
    memory_free_mib = models.PositiveIntegerField(null=True)
    load_1 = models.FloatField(null=True)
    uptime_s = models.PositiveBigIntegerField(null=True)
    containers = models.PositiveIntegerField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["node", "at"], name="sample_node_at"),
            models.Index(fields=["at"], name="sample_at"),
        ]

    def __str__(self) -> str:
        return f"node {self.node_id} at {self.at:%Y-%m-%d %H:%M:%S}"
