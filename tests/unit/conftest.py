"""What the unit tests have around them: machines in memory, and hints that are noted instead of sent."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import cache
from hypothesis import HealthCheck, settings
from kombu.exceptions import OperationalError

from compute import drivers, guard, volumes
from compute import tasks as compute_tasks
from compute.models import Gateway, Node, StorageServer
from compute.shell import Host, SshOptions
from compute.spec import RemoteStore, VolumeSpec
from reservations import hints, reconcile, starting, tasks
from reservations.models import Reservation
from tests.factories import DIGEST, NOW
from tests.fakes import FakeEngine, FakeGateway
from tests.fakes.trouble import Trouble

settings.register_profile(
    "unit", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
settings.load_profile("unit")


@dataclass
class Queue:
    """Celery's place: notes the reservations and the forwards that a worker is told to look at."""

    sent: list[int] = field(default_factory=list)
    forwards: list[tuple[int, ...]] = field(default_factory=list)
    rooms: int = 0  # hints that whoever waits may get an offer
    down: bool = False

    def send_task(self, name: str, args: tuple[int, ...], **options: Any) -> None:
        assert name in {tasks.reconcile.name, tasks.offer_waiting.name, compute_tasks.apply_forward.name}
        if self.down:
            raise OperationalError("no queue")
        if name == tasks.reconcile.name:
            self.sent.append(args[0])
        elif name == tasks.offer_waiting.name:
            self.rooms += 1
        else:
            self.forwards.append(args)


@pytest.fixture(autouse=True)
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    made = Queue()
    monkeypatch.setattr(hints, "current_app", made)
    return made


@pytest.fixture
def sent_hints(queue: Queue) -> list[int]:
    """The reservations that a worker was told to look at."""
    return queue.sent


@pytest.fixture(autouse=True)
def _a_checkout_in_which_nothing_was_collected_yet(settings: Any) -> None:
    """WhiteNoise warns of a folder that is missing, and script/test unit does not make it."""
    settings.STATIC_ROOT = settings.BASE_DIR / "static"


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@dataclass
class Time:
    """A clock that a test sets."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class Machines:
    """Every machine of the rows, in memory; made when somebody first asks for one."""

    clock: Time = field(default_factory=Time)
    engines: dict[str, FakeEngine] = field(default_factory=dict)
    gateways: dict[str, FakeGateway] = field(default_factory=dict)
    with_ssh: bool = False
    mounted: dict[str, set[str]] = field(default_factory=dict)
    images_on_server: set[str] = field(default_factory=set)
    storage: Trouble = field(default_factory=lambda: Trouble("store"))
    leases: dict[str, datetime] = field(default_factory=dict)
    speechless: bool = False  # containers run but nothing answers behind their ports

    def engine(self, node: Node) -> FakeEngine:
        image = f"registry.test:5000/library/nginx@{DIGEST}"
        return self.engines.setdefault(node.name, FakeEngine(node.name, registry={image}))

    def gateway(self, row: Gateway) -> FakeGateway:
        return self.gateways.setdefault(row.name, FakeGateway(row.name))

    def host(self, node: Node) -> Host | None:
        return Host(f"root@{node.name}", _NO_SSH) if self.with_ssh else None

    def storage_host(self, server: StorageServer) -> Host:
        return Host(f"{server.account}@{server.address}", _NO_SSH)

    def answers(self, address: str, port: int, kind: str, timeout_s: float = 1.0) -> bool:
        return not self.speechless and any(engine.answers(address, port) for engine in self.engines.values())

    # ---- volumes ------------------------------------------------------------------------------------------

    def attach(self, node: Host, volume: VolumeSpec) -> str:
        with self.storage.during("attach"):
            self.mounted.setdefault(node.target, set()).add(volume.name)
            if volume.remote:
                self.images_on_server.add(volume.name)
            return f"/var/lib/berth/volumes/{volume.name}/data"

    def detach(self, node: Host, volume: VolumeSpec) -> None:
        with self.storage.during("detach"):
            self.mounted.get(node.target, set()).discard(volume.name)

    def remove_remote(self, portal: Host, store: RemoteStore, name: str, uuid: str = "") -> None:
        with self.storage.during("remove_remote"):
            self.images_on_server.discard(name)

    # ---- what a test asks ---------------------------------------------------------------------------------

    def reconcile(self, reservation: Reservation) -> Reservation:
        """One look of a worker; the row as it is after."""
        reconcile.reconcile(reservation.pk, self.clock)
        return Reservation.objects.get(pk=reservation.pk)

    def settle(self, reservation: Reservation, looks: int = 30) -> Reservation:
        """Look again each time it says so, until it rests or is over."""
        for _ in range(looks):
            reservation = self.reconcile(reservation)
            if not reservation.is_moving:
                break
            if reservation.look_at and reservation.look_at > self.clock.now:
                self.clock.now = reservation.look_at
        return reservation

    def traces(self) -> list[str]:
        """Whatever of Berth's is left on any machine."""
        left = [name for name, engine in self.engines.items() if not engine.empty]
        left += [name for name, gateway in self.gateways.items() if gateway.rules.nat or gateway.connections]
        return left + [f"{name} on {node}" for node, names in self.mounted.items() for name in names]

    def trouble_of_all(self) -> list[Trouble]:
        engines = [engine.trouble for engine in self.engines.values()]
        return [*engines, *(gateway.trouble for gateway in self.gateways.values()), self.storage]


_NO_SSH = SshOptions(None, None, Path("nowhere"))


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Machines:
    """The verified fakes in place of the drivers; only waiting for an answer is cut short."""
    settings.BERTH_REGISTRY = "registry.test:5000"
    made = Machines()
    monkeypatch.setattr(drivers, "engine", made.engine)
    monkeypatch.setattr(drivers, "gateway", made.gateway)
    monkeypatch.setattr(drivers, "host", made.host)
    monkeypatch.setattr(drivers, "storage", made.storage_host)
    monkeypatch.setattr(volumes, "attach", made.attach)
    monkeypatch.setattr(volumes, "detach", made.detach)
    monkeypatch.setattr(volumes, "remove_local", made.detach)
    monkeypatch.setattr(volumes, "remove_remote", made.remove_remote)
    monkeypatch.setattr(guard, "write_lease", lambda host, name, end: made.leases.update({name: end}))
    monkeypatch.setattr(starting, "answers", made.answers)
    monkeypatch.setattr(starting, "WAIT_INLINE_S", 0.0)
    return made
