"""The ground of benches that book: place's 1,000 nodes, 100,000 live reservations on them, and a customer who asks.

The reservations are copies of one row, one for each of place's allocations, over 100 workspaces that are strangers to
the customer.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any

from django.core.management import call_command
from django.db import connection
from django.test import Client

from accounts.models import User, Workspace
from reservations.models import Reservation, Service
from tests.bench import place

STRANGERS = 100
MOST = 1_000_000_000  # a quota that is in nobody's way

# {names} are the columns that are copied as they are.
_COPY = """
INSERT INTO reservations_reservation ({names}, id, workspace_id, ram_mib, cores, start, "end", state, key)
SELECT {copied}, nextval(pg_get_serial_sequence('reservations_reservation', 'id')),
       (SELECT min(id) FROM accounts_workspace WHERE name LIKE 'stranger%%') + row_number() OVER () %% {strangers},
       held.ram_mib, held.cores, lower(held.during), upper(held.during),
       CASE WHEN held.taken_at IS NULL THEN 'booked' ELSE 'running' END, gen_random_uuid()
FROM compute_allocation held CROSS JOIN reservations_reservation first WHERE first.id = %s
"""
_OF_ITS_OWN = {"id", "workspace_id", "ram_mib", "cores", "start", "end", "state", "key"}


@dataclass(frozen=True, slots=True)
class Customer:
    user: User
    workspace: Workspace
    client: Client


def customer(name: str = "bench") -> Customer:
    """Somebody who is logged in, with a workspace whose quota is in nobody's way."""
    from accounts.actions import open_personal_workspace

    user = User.objects.create_user(name, f"{name}@example.org")
    workspace = open_personal_workspace(user=user, by=user)
    workspace.max_reservations, workspace.max_ram_mib, workspace.max_storage_gb = MOST, MOST, MOST
    workspace.max_cores, workspace.max_hours, workspace.max_days_ahead = Decimal(9999), 24 * 14, 60
    workspace.save()
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return Customer(user, workspace, client)


def catalogue() -> None:
    """What Berth ships, as if its images had been mirrored."""
    call_command("seed_catalogue", stdout=StringIO())
    Service.objects.update(digest=f"sha256:{'a' * 64}")


def fill(now: datetime) -> None:
    """Nodes, allocations and their reservations; as autovacuum leaves the tables."""
    place.fill()
    catalogue()
    Workspace.objects.bulk_create(Workspace(name=f"stranger {number}") for number in range(STRANGERS))
    first = reservation_of(Workspace.objects.filter(name="stranger 0").get(), None, 0, now)
    first.save()
    columns = [field.column for field in Reservation._meta.concrete_fields if field.column not in _OF_ITS_OWN]
    names, copied = (", ".join(f'{before}"{column}"' for column in columns) for before in ("", "first."))
    with connection.cursor() as cursor:
        cursor.execute(_COPY.format(names=names, copied=copied, strangers=STRANGERS), [first.pk])
    vacuum()


def reservation_of(
    workspace: Workspace, user: User | None, number: int, now: datetime, terms: dict[str, Any] | None = None
) -> Reservation:
    """An unsaved row that runs since two hours ago, for a day."""
    service = Service.objects.order_by("pk")[number % 6]
    return Reservation(
        workspace=workspace,
        created_by=user,
        name=f"course {number}",
        service=service,
        image=service.reference,
        ram_mib=512,
        cores=Decimal("0.5"),
        storage="C1",
        storage_gb=1,
        start=now - timedelta(hours=2),
        end=now + timedelta(hours=22),
        state="running",
        running_since=now - timedelta(hours=2),
        price=Decimal(1),
        terms=terms or {},
        created_at=now - timedelta(hours=2),
    )


def vacuum() -> None:
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
