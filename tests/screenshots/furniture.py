"""A portal that is full of life: who is looked at, and what belongs into each address."""

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from lab.stack.stack import Stack

if TYPE_CHECKING:
    from accounts.models import User
    from reservations.models import Reservation

CUSTOMER = "demo-chemistry"  # of demo_data: months of bookings, invoices and a budget
START_S = 120


@dataclass(frozen=True)
class Scene:
    """The people, and the values for parameters of addresses: by how the address begins, the longest first."""

    customer: "User"
    admin: "User"
    values: dict[str, Any]

    def address(self, route: str) -> str | None:
        """The route's path with values in it; None when there is nothing that it could show."""
        path = route
        while "<" in path:
            before, _, rest = path.partition("<")
            parameter, _, after = rest.partition(">")
            value = self._value(before, parameter)
            if value is None:
                return None
            path = f"{before}{value}{after}"
        return f"/{path}"

    def _value(self, before: str, parameter: str) -> Any:
        known = [name for name in self.values if f"{before}<{parameter}>".startswith(name) or parameter == name]
        return self.values[max(known, key=len)] if known else None


def furnish(stack: Stack) -> Scene:
    """Make what is looked at, by the same actions as everybody. Raises TimeoutError when a container does not start."""
    from django.utils import timezone

    from accounts.models import User

    stack.manage("demo_data", timeout=600)
    customer, admin = User.objects.get(username=CUSTOMER), User.objects.get(username="admin")
    now = timezone.now()
    running = _book(customer, "nginx", now, name="Course page", hours=6)
    _book(customer, "redis", now, name="Session cache", hours=2)
    later = _book(customer, "mysql", now, name="Exercise data", hours=4, start=now + timedelta(days=1, hours=2))
    _wait_until_running(running)
    return Scene(customer, admin, _values(customer, running, later))


def _book(user: "User", slug: str, now: Any, *, name: str, hours: int, start: Any = None) -> "Reservation":
    from accounts.workspaces import current_workspace
    from reservations import actions
    from reservations.actions import Booking
    from reservations.models import Service, StorageProfile

    service = Service.objects.select_related("default_size").get(slug=slug)
    booking = Booking(
        service=service,
        size=service.default_size,
        length=timedelta(hours=hours),
        start=start,
        storage=StorageProfile.objects.get(code="C1"),
        name=name,
    )
    return actions.book(booking=booking, workspace=current_workspace(user), by=user, now=now)[0]


def _wait_until_running(row: "Reservation") -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        row.refresh_from_db()
        if row.state == "running":
            return
        time.sleep(0.5)
    raise TimeoutError(f"{row} is {row.state} after {START_S} s: {row.reason}")


def _values(customer: "User", running: "Reservation", later: "Reservation") -> dict[str, Any]:
    from billing.models import Invoice
    from compute.models import Node, ObservedContainer
    from monitoring.models import Incident
    from reservations.models import Reservation

    past = Reservation.objects.past().filter(workspace=running.workspace).order_by("-pk").first()
    invoice = Invoice.objects.filter(workspace=running.workspace).order_by("-pk").first()
    container = ObservedContainer.objects.order_by("-pk").first()
    incident = Incident.objects.order_by("-pk").first()
    rows = {
        "reservations/<int:pk>": running.pk,
        "reservations/<int:pk>/delete": later.pk,
        "billing/receipts/": past.pk if past else None,
        "billing/invoices/": invoice.number if invoice else None,
        "monitor/nodes/": Node.objects.order_by("name").values_list("name", flat=True).first(),
        "monitor/containers/": container.pk if container else None,
        "monitor/incidents/": incident.pk if incident else None,
        "slug:slug": "nginx",
    }
    return {name: value for name, value in rows.items() if value is not None}
