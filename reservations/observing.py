"""What was seen of a container: written down, put into words, and heeded when it is stopped."""

from datetime import datetime

from compute.engine import ContainerEngine
from compute.spec import Observed, Presence
from reservations.claims import Clock
from reservations.models import Container

GRACE_S = 10


def stop(container: Container, engine: ContainerEngine, seen: Observed, clock: Clock) -> datetime | None:
    """Stop it with a grace. Returns until when it is paid for: None is now.

    One that is found ended was stopped by an earlier try, whose answer was lost: it served until it was last seen to
    run. So that is written down first. Raises NoAnswer or EngineRefused.
    """
    runs = seen.presence == Presence.RUNNING
    if runs:
        write(container, seen, clock())
    engine.stop(container.machine_name, grace_s=GRACE_S)
    return None if runs else container.observed_at


def why_it_ended(seen: Observed) -> str:
    if seen.presence == Presence.ABSENT:
        return "The container was gone from its node."
    if seen.out_of_memory:
        return "The container used more memory than its size allows and was ended."
    return f"The container ended by itself (exit code {seen.exit_code})."


def write(container: Container, seen: Observed, now: datetime) -> None:
    Container.objects.filter(pk=container.pk).update(
        presence=seen.presence,
        engine_id=seen.engine_id or container.engine_id,
        exit_code=seen.exit_code,
        observed_at=now,
    )
