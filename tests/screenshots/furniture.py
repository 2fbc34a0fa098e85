"""A portal that is full of life, made by the same actions as everybody's."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from lab.stack.stack import Stack

if TYPE_CHECKING:
    from accounts.models import Invitation, User, Workspace
    from reservations.models import Reservation, WorkspaceVolume

CUSTOMER = "demo-chemistry"  # of demo_data: months of bookings, invoices, a budget, a team, a token, a key
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
PATIENCE_S = 120
Found = TypeVar("Found")


@dataclass(frozen=True)
class Life:
    """The people and things that are looked at."""

    customer: "User"
    member: "User"  # of the customer's team
    newcomer: "User"  # who is invited to it
    admin: "User"
    team: "Workspace"
    invitation: "Invitation"
    running: "Reservation"
    later: "Reservation"
    past: "Reservation"
    offered: "Reservation"
    volume: "WorkspaceVolume"


def furnish(stack: Stack) -> Life:
    """Make what is not there yet. Raises TimeoutError when a container does not start, or no offer comes."""
    from django.utils import timezone

    from accounts.models import Membership, Role, User
    from reservations.models import Reservation

    stack.manage("demo_data", timeout=600)
    customer, now = User.objects.get(username=CUSTOMER), timezone.now()
    team = Membership.objects.get(user=customer, role=Role.OWNER, workspace__personal_of=None).workspace
    member = User.objects.get(memberships__workspace=team, memberships__role=Role.MEMBER)
    newcomer, invitation = _newcomer(team, now)
    _secure(customer, member)
    volume = _kept_volume(customer, now)
    running = _book(customer, "nginx", now, name="Course page", length=6 * HOUR)
    _book(customer, "redis", now, name="Session cache", length=2 * HOUR)
    later = _book(customer, "mysql", now, name="Exercise data", length=4 * HOUR, start=now + DAY + 2 * HOUR)
    _book(member, "nginx", now, name="Group wiki", length=3 * HOUR, start=now + 2 * DAY, workspace=team)
    _wait_for("running", running)
    past = Reservation.objects.past().filter(workspace=running.workspace, name="").order_by("-pk")[0]
    offered = _offered(customer, now)
    admin = User.objects.get(username="admin")
    return Life(customer, member, newcomer, admin, team, invitation, running, later, past, offered, volume)


def _newcomer(team: "Workspace", now: datetime) -> "tuple[User, Invitation]":
    """Whoever demo_data has invited, with an account of that address by now."""
    from allauth.account.models import EmailAddress

    from accounts.models import Invitation
    from billing import demo_today

    newcomer = demo_today.person(f"{demo_today.PREFIX}newcomer")
    EmailAddress.objects.get_or_create(user=newcomer, email=demo_today.INVITED, defaults={"verified": True})
    return newcomer, Invitation.objects.open(now).get(workspace=team, email=demo_today.INVITED)


def _secure(customer: "User", member: "User") -> None:
    """A password that nobody knows for the one, a second factor for the other: each has pages of its own."""
    from allauth.mfa.models import Authenticator
    from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
    from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret

    if not customer.has_usable_password():
        customer.set_password(secrets.token_urlsafe())
        customer.save(update_fields=["password"])
    if not Authenticator.objects.filter(user=member).exists():
        TOTP.activate(member, generate_totp_secret())
        RecoveryCodes.activate(member)


def _book(
    user: "User",
    slug: str,
    now: datetime,
    *,
    name: str,
    length: timedelta,
    start: datetime | None = None,
    workspace: "Workspace | None" = None,
    **more: Any,
) -> "Reservation":
    """The live one of that name, booked if there is none."""
    from accounts.workspaces import personal_workspace
    from reservations import actions
    from reservations.models import Reservation

    workspace = workspace or personal_workspace(user)
    found = Reservation.objects.live().filter(workspace=workspace, name=name, end__gt=now + HOUR).first()
    booking = _booking(slug, name, length, start, **more)
    return found or actions.book(booking=booking, workspace=workspace, by=user, now=now)[0]


def _booking(slug: str, name: str, length: timedelta, start: datetime | None, storage: str = "C1", **more: Any) -> Any:
    from reservations.actions import Booking
    from reservations.models import Service, StorageProfile

    service = Service.objects.select_related("default_size").get(slug=slug)
    profile = StorageProfile.objects.get(code=storage)
    return Booking(
        service=service, size=service.default_size, length=length, start=start, storage=profile, name=name, **more
    )


def _kept_volume(user: "User", now: datetime) -> "WorkspaceVolume":
    """One that a container has written to, and that nobody uses now."""
    from reservations import actions
    from reservations.models import WorkspaceVolume

    volumes = WorkspaceVolume.objects.present().visible_to(user)
    if not volumes.exists():
        row = _book(user, "nginx", now, name="With data to keep", length=2 * HOUR, storage="C3", storage_gb=1)
        _wait_for("running", row)
        actions.end(reservation=row, text="Deleted.", by=user, now=now)
        _wait_for("ended", row)
    return volumes.get()


def _offered(user: "User", now: datetime) -> "Reservation":
    """What the portal's round offers of the wish that demo_data has put in line; another wish if that one is over."""
    from accounts.workspaces import personal_workspace
    from reservations import waiting
    from reservations.models import WaitingEntry

    workspace = personal_workspace(user)
    entries = WaitingEntry.objects.open().filter(workspace=workspace)
    if not entries.exists():
        wish = _booking("nginx", "Practice for the exam", 2 * HOUR, now + 2 * DAY)
        waiting.join(booking=wish, workspace=workspace, by=user, now=now)
    offers = entries.filter(offer__state="offered").select_related("offer")
    entry = _wait("an offer", lambda: offers.first())
    assert entry.offer is not None
    return entry.offer


def _wait_for(state: str, row: "Reservation") -> None:
    def reached() -> bool:
        row.refresh_from_db()
        return row.state == state

    _wait(f"{row} to be {state}", reached)


def _wait(what: str, look: Callable[[], Found | None]) -> "Found":
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.5)
    raise TimeoutError(f"waited {PATIENCE_S} s for {what}")
