"""One reservation of the past, from its booking to its end, through the real actions with the time of each passed in.

All of it is one transaction: nobody ever sees it half-made, so no worker looks for its container, and it is over when
it can be seen. Nothing of it was ever on a machine, and its place and ports are given back in the end.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal

from django.db import transaction
from django.db.models import Sum

from accounts import audit
from accounts.models import User, Workspace
from billing import charging, months
from billing.accounts import lock
from billing.models import BillingAccount
from compute import capacity
from compute.models import Allocation, Node, Volume
from reservations import actions, ending, extending
from reservations.actions import Booking
from reservations.models import Container, Reservation, WorkspaceVolume
from reservations.states import State
from reservations.transitions import PLATFORM, transition

AFTER_A_MONTH = timedelta(hours=1)  # when it is closed
NOTICED = timedelta(seconds=35)
QUICK, SETTLED = timedelta(seconds=4), timedelta(seconds=9)


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one reservation, all as time after its start."""

    booking: Booking
    booked_at: datetime
    ready_after: timedelta  # it answers; more than `length`: never
    stopped: tuple[timedelta, timedelta] | None = None  # from, until
    outage: tuple[timedelta, timedelta] | None = None
    extended: tuple[timedelta, timedelta] | None = None  # when, and by how much
    deleted_after: timedelta | None = None  # by its owner
    volume_deleted_at: datetime | None = None

    @property
    def start(self) -> datetime:
        return self.booking.start or self.booked_at

    @property
    def end(self) -> datetime:
        """As booked in the end."""
        return self.start + self.booking.length + (self.extended[1] if self.extended else timedelta(0))

    @property
    def over_at(self) -> datetime:
        return self.end if self.deleted_after is None else self.start + self.deleted_after


def live(plan: Plan, workspace: Workspace, by: User) -> Reservation | None:
    """Book it and let all of it happen; None when it did already. Raises as reservations.actions.book does."""
    with transaction.atomic(durable=True):
        account = lock(workspace.pk)
        workspace.refresh_from_db()
        if Reservation.objects.filter(workspace=workspace, created_at=plan.booked_at).exists():
            return None
        row = actions.hold(
            booking=plan.booking, workspace=workspace, by=by, now=plan.booked_at, exclude=_full_nodes(plan)
        )
        return _Life(plan, row, account, by).pass_by()


def _full_nodes(plan: Plan) -> list[int]:
    """Nodes that lent too much at that time: the plan of capacity.place forgets what is past."""
    during = capacity.window(plan.start, plan.end + timedelta(hours=1))
    held = Allocation.objects.filter(during__overlap=during).order_by().values_list("node")
    sums = {node: (ram, cores) for node, ram, cores in held.annotate(Sum("ram_mib"), Sum("cores"))}
    size = plan.booking.size
    found = []
    for node in Node.objects.lending():
        ram, cores = sums.get(node.pk, (0, Decimal(0)))
        if ram + size.ram_mib > node.ram_mib or cores + size.cores > node.cores:
            found.append(node.pk)
    return found


@dataclass
class _Life:
    """What happens, in order of time; within one transaction."""

    plan: Plan
    row: Reservation
    account: BillingAccount
    by: User
    steps: list[tuple[datetime, Callable[[datetime], None]]] = field(default_factory=list)

    def pass_by(self) -> Reservation:
        plan, start = self.plan, self.plan.start
        self.at(start, self.begin)
        served = start + plan.ready_after < plan.over_at
        if served:
            self.at(start + plan.ready_after, self.answer)
            if plan.stopped:
                self.at(start + plan.stopped[0], self.stop)
                self.at(start + plan.stopped[1], self.start_again)
            if plan.outage:
                self.at(start + plan.outage[0] + NOTICED, self.lose)
                self.at(start + plan.outage[1], self.answer)
            if plan.extended:
                self.at(start + plan.extended[0], self.extend)
        for month in months.months(start, plan.over_at, self.account.zone):
            closing = months.stretch(month, self.account.zone)[1] + AFTER_A_MONTH
            if closing < plan.over_at:
                self.at(closing, lambda now, month=month: self.close(month, now))  # type: ignore[misc]
        self.at(plan.over_at, self.end if served else self.give_up)
        for when, step in sorted(self.steps, key=lambda step: step[0]):
            step(when)
        self.take_down(plan.over_at + QUICK)
        charging.charge_what_is_over(self.account, plan.over_at + SETTLED)
        if plan.volume_deleted_at and self.row.kept_volume:
            self.delete_volume(self.row.kept_volume, plan.volume_deleted_at)
        return self.row

    def at(self, when: datetime, step: Callable[[datetime], None]) -> None:
        self.steps.append((when, step))

    def to(self, state: State, now: datetime, text: str, **changes: datetime) -> None:
        transition(self.row, state, text=text, by=PLATFORM, now=now, **changes)  # type: ignore[arg-type]

    def begin(self, now: datetime) -> None:
        capacity.take(Container.objects.get(reservation=self.row).allocation, now)
        self.to(State.STARTING, now, "Starting.")
        if self.row.kept_volume:
            Volume.objects.filter(pk=self.row.kept_volume.volume_id, formatted_at=None).update(formatted_at=now)

    def answer(self, now: datetime) -> None:
        self.to(State.RUNNING, now, "It answers at its address.", running_since=self.row.running_since or now)

    def stop(self, now: datetime) -> None:
        actions.note_wish(reservation=self.row, wish=Reservation.Wish.STOP, by=self.by, now=now)
        self.to(State.STOPPED, now + QUICK, "Stopped. Its place and its data are kept until the end.")

    def start_again(self, now: datetime) -> None:
        actions.note_wish(reservation=self.row, wish=Reservation.Wish.RUN, by=self.by, now=now)
        self.to(State.STARTING, now, "Starting again.")
        self.answer(now + QUICK)

    def lose(self, now: datetime) -> None:
        """It is paid for until its last sight, and free until it answers again."""
        self.to(State.STARTING, now, "It ended with code 137. It is started again.", served_until=now - NOTICED)

    def extend(self, now: datetime) -> None:
        if self.plan.extended:
            self.row = extending.prolong(reservation=self.row, length=self.plan.extended[1], by=self.by, now=now)

    def close(self, month: date, now: datetime) -> None:
        charging.close(self.account, month, now)

    def end(self, now: datetime) -> None:
        if self.plan.deleted_after is None:
            actions.start_ending(self.row, text="The booked time is over.", by=PLATFORM, now=now)
        else:
            actions.start_ending(self.row, text="Deleted.", by=self.by, now=now)
            audit.record(by=self.by, action="reservation.end", target=f"reservation:{self.row.pk}", text="Deleted.")

    def give_up(self, now: datetime) -> None:
        text = "It could not be started in time. The image registry gives no answer; waiting for it."
        actions.start_ending(self.row, text=text, by=PLATFORM, now=now, failure=text)

    def take_down(self, now: datetime) -> None:
        for container in ending.present(self.row):
            ending.note_gone(container, now)
        ending.note_over(self.row, now)

    def delete_volume(self, kept: WorkspaceVolume, now: datetime) -> None:
        """There is no image of it anywhere: it is removed as soon as it is deleted."""
        Volume.objects.filter(pk=kept.volume_id).update(state=Volume.State.REMOVED)
        WorkspaceVolume.objects.filter(pk=kept.pk).update(deleted_at=now)
        audit.record(by=self.by, action="volume.delete", target=f"volume:{kept.volume_id}", name=kept.name)
