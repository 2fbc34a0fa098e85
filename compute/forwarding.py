"""Brings a gateway to what the rows say. Many changes at once are one apply."""

import logging
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from django.db import connection
from django.utils import timezone

from compute import drivers
from compute.gateway import Rules, render
from compute.models import Forward, Gateway
from compute.shell import CommandFailed, NoAnswer

logger = logging.getLogger(__name__)
LOCK_SPACE = 0x6777  # "gw": first key of the advisory lock, the second is the gateway's id
_in_process: dict[int, threading.Lock] = defaultdict(threading.Lock)


def sync(gateway: Gateway, *, only_for: list[int] | None = None) -> None:
    """Apply the wanted forwards to the gateway and cut what is no longer wanted. Raises CommandFailed or NoAnswer.

    With `only_for` (ids of forwards) it is a request on behalf of these: if another apply has already brought
    them to what they should be, nothing is done. So forty bookings at once cost a few applies, not forty.
    """
    with _in_process[gateway.pk]:  # threads of this process wait here and not with a database lock each
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
    if dead:
        driver.cut([row.spec for row in dead])
    Forward.objects.filter(pk__in=[row.pk for row in rows]).update(applied=True)
    Forward.objects.filter(pk__in=[row.pk for row in dead], wanted=False).update(applied=False)
    Gateway.objects.filter(pk=gateway.pk).update(applied_at=timezone.now(), problem="")


def wanted_rules(gateway: Gateway) -> Rules:
    return _rules(gateway, wanted=True)


def applied_rules(gateway: Gateway) -> Rules:
    return _rules(gateway, applied=True)


def _rules(gateway: Gateway, **which: bool) -> Rules:
    rows = Forward.objects.filter(gateway=gateway, **which).select_related("gateway", "node")
    return render((row.spec for row in rows), gateway.private_subnet)


def check(gateway: Gateway, now: datetime) -> int:
    """Compare the gateway with the rows and mend it; returns how many rules differed. Drift is shown and counted."""
    if gateway.driver == Gateway.Driver.DIRECT:
        return 0
    driver = drivers.gateway(gateway)
    try:
        with _locked(gateway):
            found = driver.found()
            # Drift is what differs from what was applied; what is wanted since then is merely on its way.
            drift = applied_rules(gateway).difference(found) if gateway.applied_at else 0
            if drift:
                logger.warning("gateway %s: %d rules differ from what was applied; mending", gateway.name, drift)
            if drift or wanted_rules(gateway).difference(found):
                _apply(gateway)
            wanted = [
                row.spec
                for row in Forward.objects.filter(gateway=gateway, wanted=True).select_related("gateway", "node")
            ]
            cut = driver.cut_all_but(wanted, gateway.port_first, gateway.port_last)
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
def _locked(gateway: Gateway) -> Iterator[None]:
    """One apply at a time over all processes: an older content must not overwrite a newer one.

    A session lock and not a transaction's, since a network call is made under it; the database frees it when
    this process dies.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s, %s)", [LOCK_SPACE, gateway.pk])
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [LOCK_SPACE, gateway.pk])
