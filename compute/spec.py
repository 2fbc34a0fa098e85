"""What the drivers are told, and what they answer: plain values, no Django.

RAM is MiB, storage is GB (10^9 bytes), cores are Decimal with two places. Every name that reaches a machine is
made here or derived from ids by the portal; nothing that a customer typed is used as a name or a path.
"""

import posixpath
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from ipaddress import ip_address, ip_network

LABEL_RESERVATION = "berth.reservation"
LABEL_GENERATION = "berth.generation"
LABEL_EXPIRES_AT = "berth.expires_at"
LABEL_WORKSPACE = "berth.workspace"
LABEL_KEY = "berth.key"  # of the reservation: an id may come twice when a database was restored

EVERYBODY = "0.0.0.0/0"

VOLUMES_AT = "/var/lib/berth/volumes"  # on a node: the only folder of it that a container may see a part of

# All that a container may ever be given; everything else is refused when a service is saved and again by the driver.
# The first seven are what official images need to begin as root and to become another user. sshd does not start
# without the last two: it locks its unprivileged half into an empty folder, and notes each log-in.
CAPABILITIES = frozenset(
    {"CHOWN", "SETUID", "SETGID", "DAC_OVERRIDE", "FOWNER", "NET_BIND_SERVICE", "KILL", "SYS_CHROOT", "AUDIT_WRITE"}
)

_FOLDER = re.compile(r"\A(/[A-Za-z0-9_][A-Za-z0-9._-]*)+\Z")
_NOT_FOLDERS = ("/proc", "/sys", "/dev")


def folder_problem(folder: object) -> str:
    """Why nothing may be mounted there in a container; empty when it may."""
    if not isinstance(folder, str) or len(folder) > 200 or not _FOLDER.match(folder):
        return f"{str(folder)[:60]!r} is not a folder: one begins with a slash and has letters, digits, . _ - and /"
    if posixpath.normpath(folder) != folder or any(
        folder == top or folder.startswith(f"{top}/") for top in _NOT_FOLDERS
    ):
        return f"nothing can be mounted at {folder}"
    return ""


@dataclass(frozen=True, slots=True)
class PortSpec:
    """A container port that is published on the node's private address."""

    container_port: int
    node_address: str
    node_port: int
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """An ext4 image of a fixed size that is mounted on the node and then into the container.

    `name` is the image's name without suffix ("vol-17"). `remote` names the storage server when the image lives
    there (C2, C3); None means the node's own disk (C1). Only a `fresh` one may be made: it was never in use.
    """

    name: str
    size_gb: int
    remote: "RemoteStore | None" = None
    fresh: bool = True
    uuid: str = ""  # of its file system; empty: not checked


@dataclass(frozen=True, slots=True)
class RemoteStore:
    """A storage server as a node sees it: `account@address`, and the folder that sftp shows."""

    account: str
    address: str
    path: str
    port: int = 22


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """One container, wholly decided by the portal."""

    name: str
    image: str
    labels: dict[str, str]
    ram_mib: int
    cores: Decimal
    ports: tuple[PortSpec, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    pids: int = 512
    log_mib: int = 10
    hostname: str = ""
    volume_path: str | None = None  # a directory on the node
    mount_path: str | None = None  # where the container sees it
    read_only: bool = False
    scratch: tuple[str, ...] = ()  # folders in memory
    runtime: str = ""  # of the node; empty: the engine's own
    internet: bool = True
    writes_mib: int = 0  # on its own root file system, where the engine can limit it; 0: no limit

    @property
    def network(self) -> str:
        """The bridge of its own that the container is put on."""
        return self.name

    @property
    def volume_name(self) -> str | None:
        """The engine's name for the mounted directory; the engine fills an empty one from the image."""
        return self.name if self.volume_path else None


class Presence(StrEnum):
    """What is known of a container. UNKNOWN is an answer too: nothing is deleted or released upon it."""

    RUNNING = "running"
    CREATED = "created"
    EXITED = "exited"
    ABSENT = "absent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Observed:
    """What an engine said of one container."""

    presence: Presence
    engine_id: str = ""
    exit_code: int | None = None
    out_of_memory: bool = False
    name: str = ""
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ImageSeen:
    """An image on a node. `names` are all its references, by tag and by digest; `used`: a container stands on it."""

    engine_id: str
    names: tuple[str, ...]
    size_mib: int
    used: bool


@dataclass(frozen=True, slots=True)
class Writes:
    """Where on its node a container writes, apart from its volume: its own layer and volumes that the image declares.

    Empty: there is no such container, or its engine does not tell.
    """

    engine_id: str = ""
    folders: tuple[str, ...] = ()


def is_open(sources: Collection[str]) -> bool:
    """Whether a list of sources lets in everybody."""
    return not sources or EVERYBODY in sources


def allows(sources: Collection[str], address: str) -> bool:
    """Whether a list of sources lets in a connection from this IPv4 address."""
    return is_open(sources) or any(ip_address(address) in ip_network(source) for source in sources)


@dataclass(frozen=True, slots=True)
class ForwardSpec:
    """public_address:public_port → node_address:node_port, for who comes from one of `sources`; empty: everybody.

    Those are IPv4 networks as 203.0.113.0/24, without host bits, a single address as 203.0.113.7/32.
    """

    public_address: str
    public_port: int
    node_address: str
    node_port: int
    protocol: str = "tcp"
    sources: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether everybody may come in."""
        return is_open(self.sources)

    def allows(self, address: str) -> bool:
        """Whether a connection from this IPv4 address may come in."""
        return allows(self.sources, address)


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine says of its machine."""

    version: str
    ram_mib: int
    cores: int
    architecture: str
    containers: int
