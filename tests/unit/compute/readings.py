"""Readings as the tests need them."""

from datetime import datetime, timedelta
from typing import Any

from compute import partitions
from compute.models import ContainerSample, Node, ObservedContainer, Sample
from tests.factories import NOW

STEP = timedelta(seconds=15)


def make_observed(node: Node, name: str = "berth-1-1-main", **values: Any) -> ObservedContainer:
    defaults: dict[str, Any] = {
        "engine_id": f"id of {name}",
        "reservation_id": 1,
        "state": ObservedContainer.State.RUNNING,
        "first_seen_at": NOW,
        "changed_at": NOW,
    }
    return ObservedContainer.objects.create(node=node, name=name, **{**defaults, **values})


def make_sample(node: Node, at: datetime, **values: Any) -> Sample:
    partitions.ensure(at)
    return Sample.objects.create(node=node, at=at, **{"reachable": True, **values})


def make_container_sample(container: ObservedContainer, at: datetime, **values: Any) -> ContainerSample:
    partitions.ensure(at)
    return ContainerSample.objects.create(container=container, at=at, **{"running": True, **values})
