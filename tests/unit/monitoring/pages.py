"""What the pages of the monitor are looked at with: people, machines, readings."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from accounts.models import User
from compute import partitions
from compute.models import ContainerSample, Node, ObservedContainer, Sample
from reservations.models import Container, Reservation
from tests.factories import HOUR, make_node, make_reservation, make_user
from tests.unit.portal.doors import log_in, make_factor

MACHINE: dict[str, Any] = {
    "memory_total_mib": 8192,
    "memory_free_mib": 6144,
    "load_1": 0.5,
    "cores": 4.0,
    "cores_used": 1.5,
    "uptime_s": 3600,
    "volumes_size_mib": 1000,
    "volumes_free_mib": 250,
    "images_size_mib": 1000,
    "images_free_mib": 500,
    "containers_expected": 2,
    "containers": 2,
}


def staff(*permissions: str, name: str = "", everything: bool = False) -> User:
    """With these permissions only: "change_node"."""
    person = make_user(name, is_staff=True, is_superuser=everything)
    make_factor(person)
    person.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    return person


def browser_of(person: User | None) -> Client:
    browser = Client()
    if person:
        log_in(browser, person)
    return browser


def words(answer: Any) -> str:
    """The page's text with single spaces."""
    return " ".join(answer.content.decode().split())


def read(node: Node, at: datetime | None = None, **values: Any) -> Sample:
    """A reading of the node."""
    at = at or timezone.now()
    partitions.ensure(at)
    return Sample.objects.create(**{"node": node, "at": at, "reachable": True, **MACHINE, **values})


def run(reservation: Reservation, **values: Any) -> ObservedContainer:
    """It runs, and its engine shows that."""
    now = timezone.now()
    container = Container.objects.select_related("node").get(reservation=reservation)
    Reservation.objects.filter(pk=reservation.pk).update(state="running", running_since=now)
    container.allocation.__class__.objects.filter(pk=container.allocation_id).update(taken_at=now)
    seen = {
        "node": container.node,
        "name": container.machine_name,
        "engine_id": f"{reservation.pk:064x}",
        "reservation_id": reservation.pk,
        "state": "running",
        "memory_limit_mib": reservation.ram_mib,
        "started_at": now,
        "first_seen_at": now,
        "changed_at": now,
    }
    return ObservedContainer.objects.create(**{**seen, **values})


def book_and_run(user: User, **values: Any) -> ObservedContainer:
    return run(make_reservation(user, now=timezone.now(), length=HOUR), **values)


def read_container(container: ObservedContainer, at: datetime | None = None, **values: Any) -> ContainerSample:
    at = at or timezone.now()
    partitions.ensure(at)
    usual = {"running": True, "cores_used": 0.25, "memory_mib": 128.0, "received_per_s": 1500.0, "sent_per_s": 10.0}
    return ContainerSample.objects.create(**{"container": container, "at": at, **usual, **values})


def big_node(name: str = "", **values: Any) -> Node:
    return make_node(name, **{"ram_mib": 65_536, "cores": Decimal(64), "last_seen_at": timezone.now(), **values})


def generous(user: User) -> User:
    """With a quota that does not stand in the way."""
    workspace = user.memberships.get().workspace
    type(workspace).objects.filter(pk=workspace.pk).update(max_reservations=1000, max_cores=1000, max_ram_mib=10**6)
    return user


MINUTE = timedelta(minutes=1)
