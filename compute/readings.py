"""What is read of machines and containers to be shown over time: plain values, no Django. None: not known."""

from dataclasses import dataclass, field
from datetime import datetime

EVERY_S = 15  # between two rounds of readings


@dataclass(frozen=True, slots=True)
class ContainerSeen:
    """A line of an engine's list. `state` and `health` are the engine's own words ("" where it asks for no health)."""

    engine_id: str
    name: str
    state: str
    health: str = ""
    exit_code: int | None = None
    lately: bool = True  # it came to this state less than a minute ago, so it may have been in another meanwhile
    reservation_id: int | None = None

    @property
    def running(self) -> bool:
        return self.state == "running"


@dataclass(frozen=True, slots=True)
class Listing:
    """The containers with our label. When something of it could not be read it is not complete: nobody is gone."""

    version: str
    containers: tuple[ContainerSeen, ...]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Details:
    """What only an inspect tells of a container."""

    state: str
    health: str = ""
    exit_code: int | None = None
    out_of_memory: bool = False
    started_at: datetime | None = None
    finished_at: datetime | None = None
    memory_limit_mib: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a running container uses: memory now, the others are counters since it was started."""

    cpu_s: float | None = None
    memory_mib: float | None = None
    received: int | None = None  # bytes
    sent: int | None = None


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a machine itself tells."""

    memory_total_mib: int | None = None
    memory_free_mib: int | None = None
    load_1: float | None = None
    load_5: float | None = None
    load_15: float | None = None
    cores: int | None = None
    cpu_s: float | None = None  # counter: what all cores worked since it booted
    uptime_s: int | None = None
    volumes_size_mib: int | None = None
    volumes_free_mib: int | None = None
    images_size_mib: int | None = None
    images_free_mib: int | None = None
    oom_kills: dict[str, int] = field(default_factory=dict)  # by the engine's id, where there were any


def per_second(before: float | None, after: float | None, seconds: float, *, restarted: bool = False) -> float | None:
    """How fast a counter grew over so many seconds.

    After a restart it began again at 0, so what it shows is what was added at least. One that went back for no such
    reason counted something else before (an interface that is gone): nothing is concluded.
    """
    if after is None or seconds <= 0:
        return None
    if restarted:
        return after / seconds
    if before is None or after < before:
        return None
    return (after - before) / seconds
