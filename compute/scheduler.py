"""Which node takes a request: minimum RAM ratio over the peak of the window. Pure.

Of the nodes where peak + request stays within what is lent, for RAM and for cores, the one with the smallest
`peak RAM / lent RAM` is taken: an idle node wins, and a big node takes more than a small one. Ties go to the
smaller core ratio, then to the name.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for, over the window [start, end)."""

    ram_mib: int
    cores: Decimal
    start: datetime
    end: datetime
    needs_host: bool = False  # something is mounted on the machine: its engine alone is not enough


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that may be given something: what it lends and the most that is held of it in the window."""

    node_id: int
    name: str
    ram_mib: int
    cores: Decimal
    peak_ram_mib: int
    peak_cores: Decimal


class Short(StrEnum):
    """What was short."""

    NO_HEALTHY_NODE = "no_healthy_node"
    NO_HOST = "no_host"
    TOO_BIG = "too_big"
    RAM = "ram"
    CORES = "cores"
    RAM_AND_CORES = "ram_and_cores"


SENTENCES = {
    Short.NO_HEALTHY_NODE: "No resources available: none of the compute nodes is in service at the moment.",
    Short.NO_HOST: "No resources available: no compute node that can mount remote storage is in service.",
    Short.TOO_BIG: "No resources available: no compute node is big enough for this size.",
    Short.RAM: "No resources available: not enough RAM is free on any compute node for all of this time.",
    Short.CORES: "No resources available: not enough cores are free on any compute node for all of this time.",
    Short.RAM_AND_CORES: "No resources available: no compute node has enough RAM and cores free for all of this time.",
}


def fits(request: Request, candidate: Candidate) -> bool:
    """Whether the request stays within what the node lends at every instant of the window."""
    return (
        candidate.peak_ram_mib + request.ram_mib <= candidate.ram_mib
        and candidate.peak_cores + request.cores <= candidate.cores
    )


def times(request: Request, candidate: Candidate) -> int:
    """How many of the request fit on the node over the window, one beside the other."""
    if not fits(request, candidate):
        return 0
    by_ram = (candidate.ram_mib - candidate.peak_ram_mib) // request.ram_mib
    return min(by_ram, int((candidate.cores - candidate.peak_cores) / request.cores))


def have_room(request: Request, candidates: Iterable[Candidate], copies: int = 1) -> bool:
    """Whether so many of the request fit on these nodes together."""
    so_far = accumulate(times(request, candidate) for candidate in candidates)
    return any(many >= copies for many in so_far)


def rank(candidate: Candidate) -> tuple[Fraction, Fraction, str]:
    """The smallest is the best; exact, so that equal ratios are equal."""
    return (
        Fraction(candidate.peak_ram_mib, candidate.ram_mib),
        Fraction(candidate.peak_cores) / Fraction(candidate.cores),
        candidate.name,
    )


def choose(request: Request, candidates: Iterable[Candidate]) -> Candidate | Short:
    """The best node for the request, or what was short."""
    all_of_them = list(candidates)
    fitting = [candidate for candidate in all_of_them if fits(request, candidate)]
    if fitting:
        return min(fitting, key=rank)
    return why_not(request, all_of_them)


def why_not(request: Request, candidates: Sequence[Candidate]) -> Short:
    """What was short when no candidate fits."""
    if not candidates:
        return Short.NO_HOST if request.needs_host else Short.NO_HEALTHY_NODE
    big_enough = [c for c in candidates if request.ram_mib <= c.ram_mib and request.cores <= c.cores]
    if not big_enough:
        return Short.TOO_BIG
    ram_short = all(c.peak_ram_mib + request.ram_mib > c.ram_mib for c in big_enough)
    cores_short = all(c.peak_cores + request.cores > c.cores for c in big_enough)
    if ram_short == cores_short:
        return Short.RAM_AND_CORES
    return Short.RAM if ram_short else Short.CORES


@dataclass(frozen=True, slots=True)
class Step:
    """What is held from `at` until the next step."""

    at: datetime
    ram_mib: int
    cores: Decimal


def peak(steps: Sequence[Step], start: datetime, end: datetime) -> tuple[int, Decimal]:
    """The largest RAM and the largest cores held at any instant of [start, end); steps in order of time."""
    ram, cores = 0, Decimal(0)
    for index, step in enumerate(steps):
        until = steps[index + 1].at if index + 1 < len(steps) else None
        if step.at < end and (until is None or until > start):
            ram, cores = max(ram, step.ram_mib), max(cores, step.cores)
    return ram, cores


def earliest_fit(
    steps: Sequence[Step], ram_mib: int, cores: Decimal, free_from: datetime, length: timedelta
) -> datetime | None:
    """The first instant ≥ `free_from` from which (ram_mib, cores) stay free for `length`.

    `ram_mib` and `cores` are the most that may be *held by others* (lent minus asked); steps are in order of
    time. None if the last step is too full for ever.
    """
    start = free_from
    for index, step in enumerate(steps):
        until = steps[index + 1].at if index + 1 < len(steps) else None
        if until is not None and until <= start:
            continue
        if step.at >= start + length:
            return start
        if step.ram_mib > ram_mib or step.cores > cores:
            if until is None:
                return None
            start = until
    return start
