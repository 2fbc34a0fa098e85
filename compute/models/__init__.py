"""Facts about the machines. Constraints hold what must never happen; `capacity` alone writes allocations."""

from compute.models.lending import Allocation, AllocationQuerySet, Forward, ForwardQuerySet, LoadStep
from compute.models.machines import Gateway, Node, NodeQuerySet, StorageServer
from compute.models.samples import (
    ContainerHour,
    ContainerMinute,
    ContainerSample,
    NodeHour,
    NodeMinute,
    ObservedContainer,
    Sample,
    SamplingMark,
)
from compute.models.volumes import Volume

__all__ = [
    "Allocation",
    "AllocationQuerySet",
    "ContainerHour",
    "ContainerMinute",
    "ContainerSample",
    "Forward",
    "ForwardQuerySet",
    "Gateway",
    "LoadStep",
    "Node",
    "NodeHour",
    "NodeMinute",
    "NodeQuerySet",
    "ObservedContainer",
    "Sample",
    "SamplingMark",
    "StorageServer",
    "Volume",
]
