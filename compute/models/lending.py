"""What is lent of the machines: RAM and cores, public ports. `capacity` alone writes allocations."""

from datetime import datetime

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import ArrayField, DateTimeRangeField, RangeOperators
from django.db import models
from django.db.models import Q

from compute.models.machines import Gateway, Node
from compute.spec import ForwardSpec


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
    allowed_sources = ArrayField(
        models.CharField(max_length=18),
        default=list,
        blank=True,
        help_text="IPv4 networks that may connect, as 203.0.113.0/24; empty: everybody",
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
        return ForwardSpec(
            self.gateway.public_address,
            self.public_port,
            self.node.address,
            self.node_port,
            sources=tuple(self.allowed_sources),
        )

    @property
    def opens_at(self) -> datetime:
        return self.during.lower  # type: ignore[no-any-return]  # psycopg's Range is not generic over datetime here
