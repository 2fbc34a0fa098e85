"""What can be booked: sizes, storage profiles, services; and the volumes that workspaces keep."""

from decimal import Decimal
from typing import TypedDict

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.models import User, Workspace
from accounts.validators import no_control_characters
from compute.models import Volume
from reservations import service_rules
from reservations.sizes import CUSTOM

NOT_MIRRORED = "Its image is not in the private registry yet; an operator can mirror it."


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

    def clean(self) -> None:
        if self.slug == CUSTOM:
            raise ValidationError({"slug": f"“{CUSTOM}” stands for the size that customers set themselves."})


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
    read_only = models.BooleanField(default=False, help_text="its root file system cannot be written to")
    scratch = models.JSONField(default=list, blank=True, help_text="folders in memory that it may write to")
    writes_mib = models.PositiveIntegerField(
        "writes at most (MiB)", default=1024, help_text="on its root file system, apart from its volume"
    )
    options = models.JSONField(
        default=dict,
        blank=True,
        help_text="JSON Schema of what customers may set: each property is an environment variable of this name",
    )
    guide = models.TextField(blank=True, help_text="how to use it, on its help page; paragraphs of plain text")
    internet = models.BooleanField(default=True, help_text="may its containers begin connections to the internet")
    min_ram_mib = models.PositiveIntegerField(default=64)
    default_size = models.ForeignKey(Size, on_delete=models.PROTECT)
    active = models.BooleanField(default=True)
    position = models.PositiveIntegerField(default=100)

    class Meta:
        ordering = ["position", "name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """What no container may have is said at its field; the engine's driver refuses it in any case."""
        names = [field.name for field in self._meta.concrete_fields if field.name != "default_size"]
        if found := service_rules.problems({name: getattr(self, name) for name in names}):
            raise ValidationError(found)

    @property
    def available(self) -> bool:
        return self.active and bool(self.digest)

    @property
    def unavailable_reason(self) -> str:
        """Why it cannot be booked; empty when it can."""
        if not self.active:
            return "Not offered at the moment."
        if not self.digest:
            return NOT_MIRRORED
        return ""

    @property
    def reference(self) -> str:
        """The image as nodes pull it: by digest, from the private registry."""
        return _reference(self.image, self.digest)


class ServiceVersion(models.Model):
    """Another image of a service that can be chosen instead of its usual one."""

    service = models.ForeignKey(Service, on_delete=models.CASCADE, related_name="versions")
    name = models.CharField(max_length=40, validators=[no_control_characters], help_text="as people know it: 7.4")
    image = models.CharField(max_length=200, help_text="upstream repository:tag, as library/redis:7.4")
    digest = models.CharField(max_length=80, blank=True, help_text="in the private registry; empty: not there")
    upstream_digest = models.CharField(max_length=80, blank=True, help_text="what was copied")
    mirrored_at = models.DateTimeField(null=True, blank=True)
    active = models.BooleanField(default=True)
    position = models.PositiveIntegerField(default=100)

    class Meta:
        ordering = ["position", "name"]
        constraints = [
            models.UniqueConstraint(
                fields=["service", "name"],
                name="service_version_once",
                violation_error_message="The service has a version of this name already.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.service} {self.name}"

    def clean(self) -> None:
        if found := service_rules.image_problems(self.image):
            raise ValidationError({"image": found})

    @property
    def unavailable_reason(self) -> str:
        """Why it cannot be chosen; empty when it can."""
        if not self.active:
            return "It is not offered at the moment."
        return "" if self.digest else NOT_MIRRORED

    @property
    def reference(self) -> str:
        """The image as nodes pull it: by digest, from the private registry."""
        return _reference(self.image, self.digest)


def _reference(image: str, digest: str) -> str:
    prefix = f"{settings.BERTH_REGISTRY}/" if settings.BERTH_REGISTRY else ""
    return f"{prefix}{image.rsplit(':', 1)[0]}@{digest}"


class WorkspaceVolumeQuerySet(models.QuerySet["WorkspaceVolume"]):
    def present(self) -> "WorkspaceVolumeQuerySet":
        """All that were not deleted, or are not about to be."""
        return self.exclude(volume__state__in=[Volume.State.REMOVING, Volume.State.REMOVED])

    def visible_to(self, user: User) -> "WorkspaceVolumeQuerySet":
        """Those of the workspaces that `user` is a member of."""
        return self.filter(workspace__memberships__user=user)


class WorkspaceVolume(models.Model):
    """A kept volume (C3) that a workspace owns and can attach to its next reservation."""

    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="volumes")
    name = models.CharField(max_length=60, validators=[no_control_characters])
    volume = models.OneToOneField(Volume, on_delete=models.PROTECT, related_name="owned")
    service = models.ForeignKey(Service, null=True, on_delete=models.SET_NULL)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False, help_text="by its owner")

    objects = WorkspaceVolumeQuerySet.as_manager()

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
