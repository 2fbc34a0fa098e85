"""What was seen of nodes and containers over time.

Every 15 s a row for each node and each of its containers, kept for two days; from these one by the minute, kept for
two weeks, and from those one by the hour, kept for a year. All six tables are partitioned by `at`, so that what is too
old is dropped whole (docs/adr/0010); a reading is found by its subject and its time, which are its key. Memory and
disks are in MiB, network in bytes, cores as "cores used" since the reading before, so 1.5 is one and a half cores.
None: not known.
"""

from django.contrib.postgres.indexes import BrinIndex
from django.db import models

from compute.models.machines import Node


class ObservedContainer(models.Model):
    """A container with our label as its node's engine shows it, and how it was when it last changed.

    `name` is the machine's name ("berth-17-1-main"); a row is of one engine's container and goes on after a restart.
    """

    class State(models.TextChoices):
        CREATED = "created"
        RUNNING = "running"
        PAUSED = "paused"
        RESTARTING = "restarting"
        REMOVING = "removing"
        EXITED = "exited"
        DEAD = "dead"
        GONE = "gone", "gone: its engine does not have it any more"

    class Health(models.TextChoices):
        NONE = "", "its image asks nothing"
        STARTING = "starting"
        HEALTHY = "healthy"
        UNHEALTHY = "unhealthy"

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="observed_containers")
    name = models.CharField(max_length=120)
    engine_id = models.CharField(max_length=64)
    reservation_id = models.PositiveBigIntegerField(null=True, blank=True, help_text="by its label")
    state = models.CharField(max_length=10, choices=State.choices)
    health = models.CharField(max_length=9, choices=Health.choices, default=Health.NONE, blank=True)
    exit_code = models.IntegerField(null=True, blank=True)
    out_of_memory = models.BooleanField(default=False, help_text="it ended, the engine says, since it had no memory")
    oom_kills = models.PositiveIntegerField(default=0, help_text="processes in it that were killed for lack of memory")
    oom_counter = models.PositiveIntegerField(default=0, help_text="of these, since it was last started")
    restarts = models.PositiveIntegerField(default=0, help_text="how often it was seen to be started again")
    memory_limit_mib = models.PositiveIntegerField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    first_seen_at = models.DateTimeField()
    changed_at = models.DateTimeField(help_text="when anything above was seen to be another than before")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["node", "engine_id"], name="observed_container_once")]
        indexes = [
            models.Index(fields=["name"], name="observed_container_name"),
            models.Index(fields=["reservation_id"], name="observed_of_reservation"),
            models.Index(fields=["node"], condition=~models.Q(state="gone"), name="observed_container_there"),
        ]

    def __str__(self) -> str:
        return self.name


class SamplingMark(models.Model):
    """How far something has come: the last round of readings, what is rolled up, who was warned."""

    class Name(models.TextChoices):
        ROUND = "round", "round: the last one that was begun"
        NODES = "nodes", "nodes: rolled up until"
        CONTAINERS = "containers", "containers: rolled up until"
        WARNINGS = "warnings", "ends that came near: told until"

    name = models.CharField(max_length=10, primary_key=True, choices=Name.choices)
    at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.name}: {self.at:%Y-%m-%d %H:%M:%S}"


class Sample(models.Model):
    """One reading of a node, in the round of `at`. Where Berth has no SSH, what only the machine tells is None."""

    pk = models.CompositePrimaryKey("node_id", "at")
    node = models.ForeignKey(
        Node, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="samples"
    )
    at = models.DateTimeField()
    reachable = models.BooleanField()
    late_s = models.FloatField(null=True, help_text="how long after `at` it was read")
    took_s = models.FloatField(null=True, help_text="how long the engine took to answer")
    engine_version = models.CharField(max_length=60, blank=True)
    memory_total_mib = models.PositiveIntegerField(null=True)
    memory_free_mib = models.PositiveIntegerField(null=True)
    load_1 = models.FloatField(null=True)
    load_5 = models.FloatField(null=True)
    load_15 = models.FloatField(null=True)
    cores = models.FloatField(null=True)
    cores_used = models.FloatField(null=True, help_text="since the reading before")
    cpu_s = models.FloatField(null=True, help_text="counter: seconds that its cores worked since it booted")
    uptime_s = models.PositiveBigIntegerField(null=True)
    volumes_size_mib = models.PositiveBigIntegerField(null=True)
    volumes_free_mib = models.PositiveBigIntegerField(null=True)
    images_size_mib = models.PositiveBigIntegerField(null=True)
    images_free_mib = models.PositiveBigIntegerField(null=True)
    containers_expected = models.PositiveIntegerField(null=True)
    containers = models.PositiveIntegerField(null=True, help_text="ours that were found running")

    class Meta:
        indexes = [BrinIndex(fields=["at"], name="sample_at")]

    def __str__(self) -> str:
        return f"node {self.node_id} at {self.at:%Y-%m-%d %H:%M:%S}"


class ContainerSample(models.Model):
    """One reading of a container."""

    pk = models.CompositePrimaryKey("container_id", "at")
    container = models.ForeignKey(
        ObservedContainer, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="samples"
    )
    at = models.DateTimeField()
    running = models.BooleanField()
    cores_used = models.FloatField(null=True, help_text="since the reading before")
    memory_mib = models.FloatField(null=True)
    received_per_s = models.FloatField(null=True, help_text="bytes a second since the reading before")
    sent_per_s = models.FloatField(null=True)
    cpu_s = models.FloatField(null=True, help_text="counter")
    received = models.PositiveBigIntegerField(null=True, help_text="counter, bytes")
    sent = models.PositiveBigIntegerField(null=True, help_text="counter, bytes")

    class Meta:
        indexes = [BrinIndex(fields=["at"], name="container_sample_at")]

    def __str__(self) -> str:
        return f"container {self.container_id} at {self.at:%Y-%m-%d %H:%M:%S}"


class _OfNode(models.Model):
    """Readings of a node over a minute or an hour that begins at `at`. Means, unless the name says otherwise."""

    pk = models.CompositePrimaryKey("node_id", "at")
    node = models.ForeignKey(Node, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    at = models.DateTimeField()
    readings = models.PositiveIntegerField()
    reachable = models.PositiveIntegerField(help_text="how many of the readings")
    memory_total_mib = models.FloatField(null=True)
    memory_free_mib = models.FloatField(null=True)
    memory_free_least_mib = models.FloatField(null=True)
    load_1 = models.FloatField(null=True)
    load_1_most = models.FloatField(null=True)
    load_5 = models.FloatField(null=True)
    load_15 = models.FloatField(null=True)
    cores = models.FloatField(null=True)
    cores_used = models.FloatField(null=True)
    cores_used_most = models.FloatField(null=True)
    uptime_least_s = models.PositiveBigIntegerField(null=True)
    volumes_size_mib = models.PositiveBigIntegerField(null=True)
    volumes_free_least_mib = models.PositiveBigIntegerField(null=True)
    images_size_mib = models.PositiveBigIntegerField(null=True)
    images_free_least_mib = models.PositiveBigIntegerField(null=True)
    containers_expected = models.FloatField(null=True)
    containers = models.FloatField(null=True)

    class Meta:
        abstract = True
        indexes = [BrinIndex(fields=["at"], name="%(class)s_at")]


class NodeMinute(_OfNode):
    """A node over a minute."""


class NodeHour(_OfNode):
    """A node over an hour."""


class _OfContainer(models.Model):
    """Readings of a container over a minute or an hour that begins at `at`. Means, unless the name says otherwise."""

    pk = models.CompositePrimaryKey("container_id", "at")
    container = models.ForeignKey(
        ObservedContainer, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    at = models.DateTimeField()
    readings = models.PositiveIntegerField()
    running = models.PositiveIntegerField(help_text="how many of the readings")
    cores_used = models.FloatField(null=True)
    cores_used_most = models.FloatField(null=True)
    memory_mib = models.FloatField(null=True)
    memory_most_mib = models.FloatField(null=True)
    received_per_s = models.FloatField(null=True)
    sent_per_s = models.FloatField(null=True)

    class Meta:
        abstract = True
        indexes = [BrinIndex(fields=["at"], name="%(class)s_at")]


class ContainerMinute(_OfContainer):
    """A container over a minute."""


class ContainerHour(_OfContainer):
    """A container over an hour."""
