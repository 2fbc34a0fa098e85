"""A ContainerEngine in memory."""

import struct
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from compute import log_lines
from compute.engine import PROBE_TIMEOUT_S, EngineRefused, ImageMissing, PortTaken, Progress
from compute.log_lines import Log
from compute.readings import ContainerSeen, Details, Listing, Usage
from compute.spec import LABEL_KEY, LABEL_RESERVATION, ContainerSpec, EngineInfo, ImageSeen, Observed, Presence, Writes
from tests.fakes.trouble import Trouble


@dataclass
class FakeContainer:
    """What the engine has under a name."""

    engine_id: str
    ports: frozenset[tuple[str, int]]
    labels: dict[str, str]
    presence: Presence = Presence.CREATED
    exit_code: int | None = None
    out_of_memory: bool = False
    image: str = ""
    health: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    memory_limit_mib: int | None = None
    log: list[tuple[int, bytes, bool]] = field(default_factory=list)  # when (ns), what with its end, an error
    lately: bool = False  # its state is less than a minute old
    usage: Usage = field(default_factory=lambda: Usage(cpu_s=0.01, memory_mib=1.0, received=0, sent=0))


@dataclass
class FakeEngine:
    """Keeps the promises of compute.engine.ContainerEngine; `registry` is what it can pull."""

    name: str = "node"
    registry: set[str] = field(default_factory=set)
    images: set[str] = field(default_factory=set)
    other_names: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of these images, given by strangers
    containers: dict[str, FakeContainer] = field(default_factory=dict)
    networks: set[str] = field(default_factory=set)
    volumes: set[str] = field(default_factory=set)
    keys: dict[tuple[str, str], str | None] = field(default_factory=dict)  # of networks and volumes, by kind and name
    written: dict[str, int] = field(default_factory=dict)  # MiB, by container
    strangers_ports: set[tuple[str, int]] = field(default_factory=set)
    partial: bool = False  # a line of its list of containers cannot be read
    machine: EngineInfo = field(default_factory=lambda: EngineInfo("20.10.24", 8192, 8, "x86_64", 0))

    def __post_init__(self) -> None:
        self.trouble = Trouble(self.name)
        self._lock = threading.Lock()
        self._made = 0

    # ---- what a test does to it ---------------------------------------------------------------------------

    def put_stranger(self, name: str, labels: dict[str, str] | None = None) -> None:
        """A container that Berth did not make (though it may carry its label)."""
        self.containers[name] = FakeContainer(self._new_id(), frozenset(), labels or {}, Presence.RUNNING)

    def end_by_itself(self, name: str, exit_code: int = 1, out_of_memory: bool = False) -> None:
        container = self.containers[name]
        container.presence, container.exit_code = Presence.EXITED, exit_code
        container.finished_at = datetime.now(UTC)
        container.out_of_memory = out_of_memory

    def write_log(self, name: str, *lines: str, error: bool = False, ns: int | None = None) -> None:
        """The container writes lines, each a moment after the one before."""
        log = self.containers[name].log
        for line in lines:
            after = log[-1][0] + 1 if log else time.time_ns()
            log.append((ns if ns is not None else after, f"{line}\n".encode(), error))

    def answers(self, address: str, port: int) -> bool:
        """Whether a running container publishes this port."""
        return any(
            (address, port) in container.ports and container.presence == Presence.RUNNING
            for container in self.containers.values()
        )

    @property
    def empty(self) -> bool:
        """Whether nothing of Berth's is left."""
        ours = [c for c in self.containers.values() if LABEL_RESERVATION in c.labels]
        return not (ours or self.networks or self.volumes)

    # ---- compute.engine.ContainerEngine -------------------------------------------------------------------

    def info(self, timeout_s: float = PROBE_TIMEOUT_S) -> EngineInfo:
        with self.trouble.during("info", changes=False):
            running = sum(c.presence == Presence.RUNNING for c in self.containers.values())
            return replace(self.machine, containers=running)

    def has_image(self, image: str) -> bool:
        with self.trouble.during("has_image", changes=False):
            return image in self.images

    def digest(self, image: str) -> str | None:
        with self.trouble.during("digest", changes=False):
            repository = image.rsplit(":", 1)[0]
            known = (name.partition("@") for name in sorted(self.images | self.registry))
            return next((digest for name, _, digest in known if name == repository), None)

    def pull(self, image: str, progress: Progress) -> None:
        with self.trouble.during("pull"):
            if image not in self.registry and image not in self.images:
                raise ImageMissing(f"the registry does not have {image}")
            progress(50, 100)
            progress(100, 100)
            self.images.add(image)

    def make_network(self, spec: ContainerSpec) -> None:
        with self.trouble.during("make_network"):
            self._check_key("network", spec, spec.network in self.networks)
            self.networks.add(spec.network)

    def create(self, spec: ContainerSpec) -> None:
        with self.trouble.during("create"), self._lock:
            self._create(spec)

    def start(self, spec: ContainerSpec) -> Observed:
        with self.trouble.during("start"), self._lock:
            container = self._create(spec)
            if container.presence != Presence.RUNNING:
                if taken := container.ports & self._ports_in_use():
                    raise PortTaken(f"port is already allocated: {sorted(taken)}")
                container.presence, container.exit_code = Presence.RUNNING, None
                container.started_at, container.lately = datetime.now(UTC), True
                container.out_of_memory = False
            return self._observed(spec.name, container)

    def _create(self, spec: ContainerSpec) -> FakeContainer:
        container = self.containers.get(spec.name)
        if container and container.labels.get(LABEL_KEY) != spec.labels.get(LABEL_KEY):
            raise EngineRefused(_anothers("container", spec))
        if spec.mount_path:
            self._check_key("volume", spec, spec.name in self.volumes)
        if container is None:
            if spec.image not in self.images:
                raise ImageMissing(f"the image {spec.image} is not on the node")
            ports = frozenset((port.node_address, port.node_port) for port in spec.ports)
            container = FakeContainer(self._new_id(), ports, dict(spec.labels), image=spec.image)
            container.memory_limit_mib = spec.ram_mib
            self.containers[spec.name] = container
            if spec.mount_path:
                self.volumes.add(spec.name)
        return container

    def stop(self, name: str, grace_s: int) -> None:
        with self.trouble.during("stop"):
            container = self.containers.get(name)
            if container and container.presence == Presence.RUNNING:
                container.presence, container.exit_code = Presence.EXITED, 137
                container.finished_at, container.lately = datetime.now(UTC), True

    def observe(self, name: str) -> Observed:
        with self.trouble.during("observe", changes=False):
            container = self.containers.get(name)
            return self._observed(name, container) if container else Observed(Presence.ABSENT, name=name)

    def remove(self, name: str, key: str = "") -> None:
        with self.trouble.during("remove"):
            container = self.containers.get(name)
            if container and key and container.labels.get(LABEL_KEY) != key:
                return
            self.containers.pop(name, None)
            for kind, names in (("network", self.networks), ("volume", self.volumes)):
                if not key or self.keys.get((kind, name)) == key:
                    names.discard(name)
                    self.keys.pop((kind, name), None)

    def writes(self, name: str) -> Writes:
        with self.trouble.during("writes", changes=False):
            container = self.containers.get(name)
            return Writes(container.engine_id, (f"/layers/{container.engine_id}",)) if container else Writes()

    def written_mib(self) -> dict[str, int]:
        with self.trouble.during("written_mib", changes=False):
            ours = [name for name, c in self.containers.items() if LABEL_RESERVATION in c.labels]
            return {name: self.written.get(name, 0) for name in ours}

    def list_ours(self) -> list[Observed]:
        with self.trouble.during("list_ours", changes=False):
            return [
                Observed(container.presence, container.engine_id, name=name, labels=container.labels)
                for name, container in self.containers.items()
                if LABEL_RESERVATION in container.labels
            ]

    def list_traces(self) -> set[str]:
        with self.trouble.during("list_traces", changes=False):
            ours = {name for name, c in self.containers.items() if LABEL_RESERVATION in c.labels}
            return ours | self.networks | self.volumes

    def list_states(self) -> Listing:
        with self.trouble.during("list_states", changes=False):
            ours = [(name, c) for name, c in self.containers.items() if LABEL_RESERVATION in c.labels]
            return Listing(self.machine.version, tuple(self._seen(name, c) for name, c in ours), not self.partial)

    def details(self, engine_id: str) -> Details | None:
        with self.trouble.during("details", changes=False):
            container = self._by_id(engine_id)
            if container is None:
                return None
            return Details(
                state=container.presence.value,
                health=container.health,
                exit_code=container.exit_code,
                out_of_memory=container.out_of_memory,
                started_at=container.started_at,
                finished_at=container.finished_at,
                memory_limit_mib=container.memory_limit_mib,
            )

    def usage(self, engine_id: str) -> Usage | None:
        with self.trouble.during("usage", changes=False):
            container = self._by_id(engine_id)
            return container.usage if container and container.presence == Presence.RUNNING else None

    def _by_id(self, engine_id: str) -> FakeContainer | None:
        return next((c for c in self.containers.values() if c.engine_id == engine_id), None)

    def _seen(self, name: str, container: FakeContainer) -> ContainerSeen:
        number = container.labels[LABEL_RESERVATION]
        return ContainerSeen(
            engine_id=container.engine_id,
            name=name,
            state=container.presence.value,
            health=container.health,
            exit_code=container.exit_code,
            lately=container.lately,
            reservation_id=int(number) if number.isdecimal() else None,
        )

    def logs(self, name: str, *, tail: int, since_ns: int | None = None) -> Log | None:
        with self.trouble.during("logs", changes=False):
            container = self.containers.get(name)
            if container is None:
                return None
            return log_lines.read([docker_frame(one) for one in container.log if one[0] > (since_ns or 0)], tail)

    def list_images(self) -> list[ImageSeen]:
        with self.trouble.during("list_images", changes=False):
            return [
                ImageSeen(f"id of {name}", (name, *self.other_names.get(name, ())), 100, self._used(name))
                for name in sorted(self.images)
            ]

    def forget_image(self, reference: str) -> None:
        with self.trouble.during("forget_image"):
            if self._used(reference):
                raise EngineRefused(f"a container is using the image {reference}")
            self.images.discard(reference)

    def _used(self, image: str) -> bool:
        return any(container.image == image for container in self.containers.values())

    def _check_key(self, kind: str, spec: ContainerSpec, there: bool) -> None:
        """Note the key of what is made now; refuse what is there with another one."""
        mine = spec.labels.get(LABEL_KEY)
        if there and self.keys.get((kind, spec.name)) != mine:
            raise EngineRefused(_anothers(kind, spec))
        self.keys[kind, spec.name] = mine

    def _ports_in_use(self) -> set[tuple[str, int]]:
        running = [c.ports for c in self.containers.values() if c.presence == Presence.RUNNING]
        return self.strangers_ports.union(*running)

    def _observed(self, name: str, container: FakeContainer) -> Observed:
        return Observed(
            container.presence,
            container.engine_id,
            exit_code=container.exit_code,
            out_of_memory=container.out_of_memory,
            name=name,
            labels=container.labels,
        )

    def _new_id(self) -> str:
        self._made += 1
        return f"{self.name}-{self._made}"


def _anothers(kind: str, spec: ContainerSpec) -> str:
    return f"a {kind} of the name {spec.name} belongs to another installation or to an older database"


def docker_frame(written: tuple[int, bytes, bool]) -> bytes:
    """As the Docker Engine API sends a line."""
    ns, text, error = written
    stamp = datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    body = f"{stamp}.{ns % 1_000_000_000:09d}Z ".encode() + text
    return struct.pack(">BxxxL", 2 if error else 1, len(body)) + body
