"""Checks the promises against the machines themselves, and says in plain words what is wrong and how to mend it.

The promises and their numbers are those of docs/promises.md. What a machine does not answer is reported as not
checked, never as fine.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Count, F, OuterRef, Q, Subquery

from compute import clocks, guarding, health
from compute.engine import EngineRefused, NoAnswer
from compute.models import Gateway, Node, StorageServer
from compute.shell import CommandFailed
from reservations import drift
from reservations.models import Container, Event, Reservation, UsagePeriod
from reservations.states import State

LATE = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that breaks a promise, or could not be checked."""

    promise: int  # 0: not checked
    where: str
    sentence: str
    mend: str
    key: str = ""  # what it is about, where the sentence has a figure or a state that is another at each look

    @property
    def identity(self) -> tuple[int, str, str]:
        """The same at each look. What could not be checked is one thing, however a machine's silence is put."""
        return self.promise, self.where, (self.key or self.sentence) if self.promise else ""


Check = Callable[[datetime], Iterator[Finding]]


def examine(now: datetime) -> list[Finding]:
    """Everything that is wrong; empty when every promise was checked and holds."""
    return [finding for check in CHECKS for finding in check(now)]


def lasting(first: list[Finding], second: list[Finding]) -> list[Finding]:
    """What was found at both looks, as the second one says it."""
    before = {finding.identity for finding in first}
    return [finding for finding in second if finding.identity in before]


def _finding(found: drift.Difference) -> Finding:
    return Finding(found.promise, found.where, found.sentence, found.mend, found.key)


def _nodes(now: datetime) -> Iterator[Finding]:
    """Promises 1 and 3 on every node: containers, networks, mounts, volumes."""
    if health.brake(now):
        sentence = "most nodes gave no answer at once: nothing is moved and nothing is torn down meanwhile"
        yield Finding(0, "fleet", sentence, "See that this machine reaches its private network.")
    for node in Node.objects.present().exclude(disk_problem=""):
        yield Finding(5, node.name, node.disk_problem, "Make room on it; it is given nothing new until then.", "disk")
    for node in Node.objects.present():
        try:
            yield from map(_finding, drift.of_node(node))
        except (NoAnswer, EngineRefused, CommandFailed) as problem:
            yield Finding(0, node.name, f"could not be checked: {problem}", "See that its engine and SSH answer.")


def _storage(now: datetime) -> Iterator[Finding]:
    for server in StorageServer.objects.all():
        try:
            yield from map(_finding, drift.of_storage(server))
        except (NoAnswer, CommandFailed) as problem:
            yield Finding(0, server.name, f"could not be checked: {problem}", "See that its sftp answers.")
            continue
        if server.problem:
            sentence = f"gets no new volumes: {server.problem}"
            yield Finding(3, server.name, sentence, "See that its disk has room.", "problem")


def _guards(now: datetime) -> Iterator[Finding]:
    """Promise 8 where the portal does not reach: each node's own timer and firewall, its clock, the certificates."""
    for trouble in guarding.troubles(now):
        words = re.sub(
            r"\d+", "", trouble.sentence
        )  # how old a sign of life is, or how far off a clock, is measured anew
        yield Finding(8 if trouble.checked else 0, trouble.where, trouble.sentence, trouble.mend, words)


def _gateways(now: datetime) -> Iterator[Finding]:
    for gateway in Gateway.objects.exclude(driver=Gateway.Driver.DIRECT):
        try:
            yield from map(_finding, drift.of_gateway(gateway))
        except (NoAnswer, CommandFailed) as problem:
            yield Finding(0, gateway.name, f"could not be checked: {problem}", "See that its SSH answers.")


def _capacity(now: datetime) -> Iterator[Finding]:
    yield from map(_finding, drift.of_plan(now))
    for node in Node.objects.present():
        used = node.allocations.held().filter(taken_at__isnull=False)
        ram = sum(row.ram_mib for row in used)
        cores = sum((row.cores for row in used), Decimal(0))
        if ram > node.ram_mib or cores > node.cores:
            yield Finding(
                5,
                node.name,
                f"{ram} MiB and {cores} cores are in use, {node.ram_mib} MiB and {node.cores} are lent",
                "End something on it, or let it lend more.",
                "in use",
            )


def _clocks(now: datetime) -> Iterator[Finding]:
    """Promise 7: a process of the portal whose clock is off does nothing, so nothing may be left to do the work."""
    keep = "See that the time of its machine is kept (chrony, ntpd)."
    if own := clocks.problem():
        yield Finding(
            7, clocks.process_name, f"{own}: what goes by time is not checked rightly either", keep, "own clock"
        )
    for name, sentence in sorted(clocks.others_off().items()):
        yield Finding(7, name, sentence, keep, "clock")


def _rows(now: datetime) -> Iterator[Finding]:
    """Promises 6, 7 and 10: bills, deadlines, history."""
    for period in UsagePeriod.objects.filter(during__endswith=None).exclude(reservation__state=State.RUNNING):
        yield Finding(6, f"reservation {period.reservation_id}", "is charged although it does not run", "Report this.")
    late = Q(deadline__lt=now - LATE) | Q(look_at__lt=now - LATE)
    for row in Reservation.objects.live().filter(late):
        yield Finding(
            7,
            f"reservation {row.pk}",
            f"is {row.state} and late: {row.reason or 'nobody looked at it'}",
            "See that a worker and beat are running (/readyz).",
            "late",
        )
    last = Event.objects.filter(reservation=OuterRef("pk")).exclude(new_state="").order_by("-at", "-pk")
    rows = Reservation.objects.annotate(last=Subquery(last.values("new_state")[:1])).exclude(last=F("state"))
    for row in rows[:50]:
        yield Finding(10, f"reservation {row.pk}", f"is {row.state}, but its history ends otherwise", "Report this.")
    double = Container.objects.present().values("reservation", "generation").annotate(n=Count("pk"))
    for found in double.filter(n__gt=1):
        yield Finding(1, f"reservation {found['reservation']}", "has two containers of one generation", "Report this.")


CHECKS: tuple[Check, ...] = (_clocks, _nodes, _guards, _storage, _gateways, _capacity, _rows)
