"""Brings a gateway to what the rows say. Many changes at once are one apply."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from django.db import connection
from django.db.models import F, Q
from django.utils import timezone

from compute import drivers
from compute.alone import alone
from compute.gateway import Rules, render
from compute.models import Forward, Gateway
from compute.shell import CommandFailed, NoAnswer
from compute.spec import ForwardSpec

logger = logging.getLogger(__name__)
WAIT_S = 20.0  # for another's apply: a gateway that hangs must not hold every worker
TRY_EVERY_S = 0.01
LOCK_SPACE = 0x6777  # "gw": first key of the advisory lock, the second is the gateway's id
_in_process: dict[int, threading.Lock] = defaultdict(threading.Lock)


def sync(gateway: Gateway, *, only_for: list[int] | None = None) -> None:
    """Apply the wanted forwards to the gateway and cut what is no longer wanted. Raises CommandFailed or NoAnswer.

    With `only_for` (ids of forwards) it is a request on behalf of these: if another apply has already brought
    them to what they should be, nothing is done. So forty bookings at once cost a few applies, not forty.
    """
    with _in_line(gateway):
        if only_for is not None and _all_as_wanted(only_for):
            return
        with _locked(gateway):
            if only_for is None or not _all_as_wanted(only_for):
                _apply(gateway)


def _all_as_wanted(forwards: list[int]) -> bool:
    return not any(
        wanted != applied
        for wanted, applied in Forward.objects.filter(pk__in=forwards).values_list("wanted", "applied")
    )


def _apply(gateway: Gateway) -> None:
    driver = drivers.gateway(gateway)
    rows = list(Forward.objects.filter(gateway=gateway, wanted=True).select_related("gateway", "node"))
    dead = list(Forward.objects.filter(gateway=gateway, wanted=False, applied=True).select_related("gateway", "node"))
    driver.apply(render((row.spec for row in rows), gateway.private_subnet))
    # A rule is asked for new connections only: those that a port had before it led elsewhere are ended here.
    if ended := [row.spec for row in rows if row.cut] + [row.spec for row in dead]:
        driver.cut(ended)
    # So are those from a source that was taken off a list; whoever is on it stays.
    if guarded := [row.spec for row in rows if not row.applied and not row.spec.is_open]:
        driver.cut_strangers(guarded)
    logger.info("gateway %s: %d forwards applied, %d ended", gateway.name, len(rows), len(dead))
    _mark_applied([row for row in rows if row.cut or not row.applied])
    Forward.objects.filter(pk__in=[row.pk for row in dead], wanted=False).update(applied=False)
    Gateway.objects.filter(pk=gateway.pk).update(applied_at=timezone.now(), problem="")


def _mark_applied(rows: list[Forward]) -> None:
    """Of these, those that still are as they were rendered: one that was changed meanwhile is not applied yet."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE compute_forward forward SET applied = true, cut = false
            FROM unnest(%s::bigint[], %s::bigint[], %s::int[], %s::int[], %s::text[])
                AS seen(id, node_id, public_port, node_port, sources)
            WHERE (forward.id, forward.node_id, forward.public_port, forward.node_port,
                   array_to_string(forward.allowed_sources, ' '))
                = (seen.id, seen.node_id, seen.public_port, seen.node_port, seen.sources)
            """,
            [
                [row.pk for row in rows],
                [row.node_id for row in rows],
                [row.public_port for row in rows],
                [row.node_port for row in rows],
                [" ".join(row.allowed_sources) for row in rows],
            ],
        )


@dataclass(frozen=True, slots=True)
class Difference:
    """Rules that the gateway lacks, and those of Berth's chains that nobody wants, as iptables-save prints them."""

    missing: tuple[str, ...]
    unwanted: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unwanted)


def compare(gateway: Gateway) -> Difference:
    """What is on the gateway against what the rows want at this moment. Changes nothing. Raises as `sync`."""
    found, wanted = drivers.gateway(gateway).found(), wanted_rules(gateway)
    if gateway.driver == Gateway.Driver.DIRECT:
        return Difference((), ())
    have, want = dict.fromkeys([*found.nat, *found.filter]), dict.fromkeys([*wanted.nat, *wanted.filter])
    return Difference(tuple(rule for rule in want if rule not in have), tuple(r for r in have if r not in want))


def wanted_rules(gateway: Gateway) -> Rules:
    return _rules(gateway, Q(wanted=True))


def _rules(gateway: Gateway, which: Q) -> Rules:
    return render(_specs(gateway, which), gateway.private_subnet)


def _specs(gateway: Gateway, which: Q) -> list[ForwardSpec]:
    """As `Forward.spec` of each, without the rows: there may be ten thousand, and a check reads them four times."""
    values = ("gateway__public_address", "public_port", "node__address", "node_port", "allowed_sources")
    rows = Forward.objects.filter(which, gateway=gateway).values_list(*values)
    return [
        ForwardSpec(public, port, node, node_port, sources=tuple(sources))
        for public, port, node, node_port, sources in rows
    ]


def _drift(gateway: Gateway, found: Rules) -> int:
    """How many rules somebody else took away or put there.

    What is wanted but not applied, or the other way round, is on its way and may be there or not; one whose list of
    sources was changed may be there as it was before.
    """
    there, sure = {*found.nat, *found.filter}, _rules(gateway, Q(wanted=True, applied=True))
    possible = _rules(gateway, Q(wanted=True) | Q(applied=True))
    on_its_way = Forward.objects.filter(gateway=gateway, wanted=True, applied=False)
    ports = on_its_way.values_list("public_port", "node_port")
    before = tuple(word for port, of_node in ports for word in (f" --ctorigdstport {port} ", f" --sport {of_node} "))
    too_many = [rule for rule in there - {*possible.nat, *possible.filter} if not any(word in rule for word in before)]
    return len({*sure.nat, *sure.filter} - there) + len(too_many)


def check(gateway: Gateway, now: datetime) -> int:
    """Compare the gateway with the rows and mend it; returns how many rules differed. Drift is shown and counted.

    A gateway that hangs takes one thread of this process: while one looks, others return at once.
    """
    if gateway.driver == Gateway.Driver.DIRECT:
        return 0
    with alone(check, gateway.pk) as first:
        return _compare_and_mend(gateway, now) if first else 0


def _compare_and_mend(gateway: Gateway, now: datetime) -> int:
    driver = drivers.gateway(gateway)
    try:
        with _locked(gateway):
            found = driver.found()
            drift = _drift(gateway, found) if gateway.applied_at else 0
            if drift:
                logger.warning("gateway %s: %d rules differ from what was applied; mending", gateway.name, drift)
            on_its_way = Forward.objects.filter(gateway=gateway).exclude(wanted=F("applied")).exists()
            if drift or on_its_way or wanted_rules(gateway).difference(found):
                _apply(gateway)
            wanted = _specs(gateway, Q(wanted=True))
            cut = driver.cut_all_but(wanted, gateway.public_address, gateway.port_first, gateway.port_last)
            if cut:
                logger.warning("gateway %s: ended %d connections of dead forwards", gateway.name, cut)
    except (CommandFailed, NoAnswer) as problem:
        Gateway.objects.filter(pk=gateway.pk).update(checked_at=now, problem=str(problem)[:300])
        raise
    Gateway.objects.filter(pk=gateway.pk).update(
        checked_at=now, drift=drift, drift_total=gateway.drift_total + drift, problem=""
    )
    return drift


@contextmanager
def _in_line(gateway: Gateway) -> Iterator[None]:
    """Threads of this process wait here and not with a database lock each. Raises NoAnswer after WAIT_S.

    At once where the gateway is known to be in trouble: one thread then tries, and the others have better to do.
    """
    lock = _in_process[gateway.pk]
    if not lock.acquire(timeout=0 if gateway.problem else WAIT_S):
        raise NoAnswer(f"the gateway {gateway.name} is busy")
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _locked(gateway: Gateway) -> Iterator[None]:
    """One apply at a time over all processes: an older content must not overwrite a newer one.

    A session lock and not a transaction's, since a network call is made under it; the database frees it when
    this process dies. Raises NoAnswer after WAIT_S.
    """
    until = time.monotonic() + WAIT_S
    while not _try_lock(gateway):
        if time.monotonic() >= until:
            raise NoAnswer(f"the gateway {gateway.name} is busy")
        time.sleep(TRY_EVERY_S)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [LOCK_SPACE, gateway.pk])


def _try_lock(gateway: Gateway) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [LOCK_SPACE, gateway.pk])
        return bool(cursor.fetchone()[0])
