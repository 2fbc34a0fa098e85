"""What tests of the life of a reservation look at, at its end."""

from compute.models import Allocation, Forward
from reservations.models import Container, Event, Reservation
from tests.unit.conftest import Machines


def nothing_is_left(machines: Machines) -> bool:
    """Nothing on any machine, nothing held, no rule wanted, no claim, no row that waits."""
    return (
        machines.traces() == []
        and not Allocation.objects.held().exists()
        and not Forward.objects.filter(released_at=None).exists()
        and not Forward.objects.filter(wanted=True).exists()
        and not Container.objects.filter(gone_at=None).exists()
        and not Reservation.objects.exclude(claim_token=None).exists()
    )


def story(reservation: Reservation) -> list[str]:
    return [e.new_state for e in Event.objects.filter(reservation=reservation).exclude(new_state="").order_by("pk")]
