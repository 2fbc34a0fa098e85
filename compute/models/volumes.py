"""Storage of a fixed size."""

import uuid

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from compute.models.machines import Node, StorageServer
from compute.spec import VolumeSpec


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
