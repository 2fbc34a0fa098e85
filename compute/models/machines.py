"""The machines: gateways, storage servers, nodes."""

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q

from compute.spec import RemoteStore

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
    engine_url = models.CharField("engine URL", max_length=253, help_text="tcp://host:2376 (mutual TLS) or unix:///…")
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
    tls_expires_at = models.DateTimeField("TLS expires at", null=True, blank=True, editable=False)
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
