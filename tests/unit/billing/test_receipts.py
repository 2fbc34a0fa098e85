"""The receipt: the booking's time without a gap, what was served of it and why the rest was not."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.models import User
from billing import charging, receipts, usage
from billing.receipts import ENDING, FAILED, OUTAGE, RELEASED, STARTING, STARTING_AGAIN, STOPPED, WAITED, Receipt
from reservations.models import Event, Reservation
from tests.factories import NOW, at, make_user, workspace_of
from tests.unit.billing.served import serve

pytestmark = pytest.mark.django_db
Step = tuple[float, str, str]


@pytest.fixture
def owner() -> User:
    return make_user("ada")


def tell(row: Reservation, *steps: Step) -> Receipt:
    """With the history: hours after NOW, the new state, the text; asked for after all of it."""
    old = ""
    for hours, state, text in [(-0.001, "booked", "Booked."), *steps]:
        Event.objects.create(reservation=row, at=at(hours), old_state=old, new_state=state, text=text, by="Berth")
        old = state
    return ask(row, at(100))


def ask(row: Reservation, now: datetime) -> Receipt:
    return receipts.receipt(usage.with_usage(Reservation.objects.all()).get(pk=row.pk), now)


def lines(receipt: Receipt) -> list[tuple[float, float, str]]:
    """Begin and end in hours, and what it was: a reason, or the price."""
    found = []
    for span in receipt.spans:
        end = span.until or span.start + span.length
        what = span.reason or str(span.amount)
        found.append((_hours(span.start), _hours(end), what))
    return found


def _hours(instant: datetime) -> float:
    return round((instant - NOW) / timedelta(hours=1), 4)


STORY: tuple[Step, ...] = (
    (0.1, "starting", "Starting."),
    (0.2, "running", "It answers at its address."),
    (1.5, "starting", "Its node was lost. It is started again."),
    (1.6, "running", "It answers at its address."),
    (2, "stopped", "Stopped."),
    (2.5, "starting", "Starting again."),
    (2.6, "running", "It answers at its address."),
    (3, "ending", "Deleted by ada."),
    (3.1, "ended", "Everything of it was removed."),
)


def test_every_stretch_is_served_or_has_its_reason(owner: User) -> None:
    served = [(at(0.2), at(1.4)), (at(1.6), at(2)), (at(2.6), at(3))]
    row = serve(workspace_of(owner), *served, start_at=NOW, end=at(4), ended_at=at(3.1))

    receipt = tell(row, *STORY)

    assert lines(receipt) == [
        (0, 0.1, WAITED),
        (0.1, 0.2, STARTING),
        (0.2, 1.4, "1.00"),  # two hours began
        (1.4, 1.6, OUTAGE),  # from its last sight on, before anybody had noticed
        (1.6, 2, "0.00"),
        (2, 2.5, STOPPED),
        (2.5, 2.6, STARTING_AGAIN),
        (2.6, 3, "0.00"),
        (3, 3.1, ENDING),
        (3.1, 4, RELEASED),
    ]
    assert receipt.cost.amount == Decimal("1.00")
    assert sum(span.amount for span in receipt.spans if span.amount is not None) == receipt.cost.amount
    assert receipt.not_served + receipt.cost.served == timedelta(hours=4)


def test_the_history_says_who_released_it_and_what_broke(owner: User) -> None:
    row = serve(workspace_of(owner), (at(0.2), at(1.4)), (at(1.6), at(3)), start_at=NOW, end=at(4), ended_at=at(3.1))

    receipt = tell(row, *STORY[:4], *STORY[-2:])

    notes = {span.reason: span.note for span in receipt.spans if span.reason}
    assert notes[OUTAGE] == "Its node was lost. It is started again."
    assert notes[RELEASED] == "Deleted by ada."


def test_what_failed_is_not_called_released(owner: User) -> None:
    row = serve(workspace_of(owner), (at(0.2), at(1)), start_at=NOW, end=at(4), state="failed", ended_at=at(1.1))

    receipt = tell(row, *STORY[:2], (1, "ending", "It crashed."), (1.1, "failed", "It crashed."))

    assert lines(receipt)[-1] == (1.1, 4, FAILED)


def test_what_was_deleted_before_it_began_is_free(owner: User) -> None:
    row = serve(workspace_of(owner), start_at=at(2), end=at(4), ended_at=at(0.1))

    receipt = tell(row, (0, "ending", "Deleted by ada."), (0.1, "ended", "Everything of it was removed."))

    assert lines(receipt) == [(2, 4, RELEASED)]
    assert (receipt.cost.amount, receipt.is_final) == (Decimal(0), True)


def test_while_it_runs_it_is_told_so_far(owner: User) -> None:
    row = serve(workspace_of(owner), (at(0), None), end=at(4), state="running")
    tell(row, (0, "starting", "Starting."), (0, "running", "It answers."))

    receipt = ask(row, at(1.5))

    (span,) = receipt.spans
    assert (span.until, span.length, span.amount) == (None, timedelta(hours=1.5), Decimal("1.00"))
    assert (receipt.is_final, receipt.uncharged) == (False, Decimal("1.00"))


def test_before_it_begins_there_is_nothing_to_tell(owner: User) -> None:
    row = serve(workspace_of(owner), start_at=at(2), end=at(4), state="booked")

    assert ask(row, at(1)).spans == []


def test_it_says_what_is_in_the_ledger(owner: User) -> None:
    row = serve(workspace_of(owner), (at(0), at(1.5)), ended_at=at(1.5))
    charging.settle(row.workspace_id, at(2))

    receipt = ask(row, at(3))

    assert [entry.amount for entry in receipt.entries] == [Decimal("1.00")]
    assert (receipt.charged, receipt.uncharged) == (Decimal("1.00"), Decimal("0.00"))


def test_a_receipt_costs_the_same_queries_however_long_its_history(owner: User, django_assert_num_queries: Any) -> None:
    few = serve(workspace_of(owner), (at(0), at(1)), ended_at=at(1))
    many = serve(workspace_of(owner), *((at(n), at(n + 0.5)) for n in range(50)), ended_at=at(50))
    for row in (few, many):
        with django_assert_num_queries(4):
            ask(row, at(100))


def test_the_page_tells_it_to_its_owner_and_to_nobody_else(owner: User, browser: Any) -> None:
    row = serve(workspace_of(owner), (at(0.2), at(1.4)), start_at=NOW, end=at(4), ended_at=at(3.1), name="my course")
    tell(row, *STORY[:2], *STORY[-2:])

    page = browser(owner).get(f"/billing/receipts/{row.pk}/").content.decode()

    assert "my course" in page
    assert RELEASED in page
    assert "Deleted by ada." in page
    assert browser(make_user("eve")).get(f"/billing/receipts/{row.pk}/").status_code == 404
