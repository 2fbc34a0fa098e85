"""1,000 bookings at the same instant against a budget, and against prepaid credit, that is enough for ten.

Each is a transaction of its own over a connection of its own, in a scratch database. What was booked is counted by SQL
afterwards, apart from the code that says what may be afforded.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import connection
from django.utils import timezone

from tests.bench.ground import Ground
from tests.bench.place import scratch_database
from tests.bench.table import Outcome, Row

if TYPE_CHECKING:
    from accounts.models import User

BOOKINGS, THREADS, AFFORDED = 1000, 16, 10


def measure(ground: Ground) -> Outcome:
    rows, notes = [], []
    with scratch_database():
        for what in ("budget", "credit"):
            booked, refused, seconds = race(what, BOOKINGS, timezone.now())
            name = f"{BOOKINGS:,} bookings at once against a {what} for {AFFORDED}: more or less than {AFFORDED}"
            rows.append(Row(name, abs(booked - AFFORDED), "", 0, f"{booked} booked, {refused} refused"))
            notes.append(f"{what}: {THREADS} threads, {seconds:.1f} s, {BOOKINGS / seconds:.0f} answers a second")
    return Outcome("budget", rows, notes)


def race(what: str, bookings: int, now: datetime) -> tuple[int, int, float]:
    """How many were booked and how many refused for want of money; everything else is an error."""
    from reservations import actions
    from reservations.actions import CannotAfford
    from tests.factories import make_booking, make_node, workspace_of

    make_node(f"{what}-node", ram_mib=2_000_000, cores=Decimal(4000))
    user = _customer(what, now)
    workspace, wanted = workspace_of(user), make_booking()
    together = threading.Barrier(THREADS)

    def book(number: int) -> bool:
        if number < THREADS:
            together.wait(60)
        try:
            actions.book(booking=wanted, workspace=workspace, by=user, now=now)
        except CannotAfford:
            return False
        finally:
            connection.close()
        return True

    begun = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(book, range(bookings)))
    return _booked(workspace.pk), answers.count(False), time.perf_counter() - begun


def _customer(what: str, now: datetime) -> "User":
    """Somebody who can pay for ten bookings of half a core and an hour."""
    from billing import actions, payments
    from tests.factories import make_user, workspace_of

    user = make_user(f"with-{what}")
    workspace = workspace_of(user)
    workspace.max_reservations, workspace.max_cores, workspace.max_ram_mib = 10_000, Decimal(10_000), 10_000_000
    workspace.save()
    price = settings.BERTH_PRICE_PER_CORE_HOUR / 2
    if what == "budget":
        actions.set_spending(workspace=workspace, monthly_budget=AFFORDED * price, hard_stop=True, by=user)
    else:
        actions.set_credit_limit(workspace=workspace, credit_limit=Decimal(0), by="bench")
        taxed = AFFORDED * price * (1 + settings.BERTH_TAX_PERCENT / 100)
        payments.grant_credit(workspace=workspace, amount=round(taxed, 2), reason="Paid.", by="bench", now=now)
    return user


def _booked(workspace_id: int) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM reservations_reservation WHERE workspace_id = %s", [workspace_id])
        return int(cursor.fetchone()[0])
