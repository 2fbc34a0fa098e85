"""The database itself refuses to change history, whoever asks it."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from accounts import audit
from accounts.models import AuditEntry
from reservations import transitions
from reservations.models import Event, Reservation, UsagePeriod
from tests.factories import HOUR, NOW, make_node, make_reservation, make_user

pytestmark = pytest.mark.django_db
TABLES = ["accounts_auditentry", "reservations_event", "reservations_usageperiod"]
CHANGES = {
    "accounts_auditentry": "UPDATE accounts_auditentry SET action = 'nothing'",
    "reservations_event": "UPDATE reservations_event SET text = 'nothing'",
    "reservations_usageperiod": "UPDATE reservations_usageperiod SET during = tstzrange(lower(during), NULL)",
}


@pytest.fixture(autouse=True)
def _history() -> None:
    """One row at least in each table."""
    make_node()
    reservation = make_reservation()
    UsagePeriod.objects.create(reservation=reservation, generation=1, cores=1, during=(NOW, NOW + timedelta(hours=1)))


def ask(statement: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL berth.testing = 'off'")  # as it is for everybody but the tests
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # what still waits for the commit holds TRUNCATE up
        cursor.execute(statement)


def refused(statement: str) -> str:
    """The name by which the database refuses it."""
    with pytest.raises(IntegrityError) as caught:
        ask(statement)
    return str(caught.value.__cause__.diag.constraint_name)  # type: ignore[union-attr]


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("deed", ["DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_no_row_is_removed(deed: str, table: str) -> None:
    assert refused(deed.format(table)) == f"{table}_append_only"


@pytest.mark.parametrize("table", CHANGES)
def test_no_row_is_changed(table: str) -> None:
    assert refused(CHANGES[table]) == f"{table}_append_only"


def test_the_models_cannot_either() -> None:
    for rows in (AuditEntry.objects.all(), Event.objects.all()):
        with pytest.raises(IntegrityError, match="is only ever added to: UPDATE is refused"), transaction.atomic():
            rows.update(at=NOW)
        with pytest.raises(IntegrityError, match="is only ever added to: DELETE is refused"), transaction.atomic():
            rows.all().delete()


def test_a_period_that_is_open_may_go_and_one_that_is_closed_may_not() -> None:
    UsagePeriod.objects.create(reservation=Reservation.objects.get(), generation=2, cores=1, during=(NOW + HOUR, None))

    UsagePeriod.objects.filter(generation=2).delete()

    with pytest.raises(IntegrityError, match="usageperiod is only ever added to: DELETE is refused"):
        UsagePeriod.objects.filter(generation=1).delete()


def test_a_reservation_stays_with_its_history() -> None:
    one_that_never_served = make_reservation()

    with pytest.raises(IntegrityError, match="event is only ever added to: DELETE is refused"):
        one_that_never_served.delete()


def test_rows_are_added_and_periods_closed_as_ever() -> None:
    audit.record(by="test", action="something", target="thing:1")
    transitions.note(Reservation.objects.get(), text="Seen.", by="test", now=NOW)
    served = UsagePeriod.objects.create(
        reservation=Reservation.objects.get(), generation=2, cores=1, during=(NOW + HOUR, None)
    )
    served.during = (NOW + HOUR, NOW + HOUR + timedelta(minutes=5))
    served.save(update_fields=["during"])

    assert AuditEntry.objects.filter(action="something").exists()
    assert Event.objects.filter(text="Seen.").exists()


def test_an_account_that_is_deleted_leaves_its_rows_and_its_name() -> None:
    user = make_user("ada")
    audit.record(by=user, action="something", target="thing:1")
    user.personal_workspace.memberships.all().delete()
    user.personal_workspace.delete()

    user.delete()

    entry = AuditEntry.objects.get(action="something")
    assert (entry.actor, entry.actor_name) == (None, "ada")


def test_an_actor_is_forgotten_but_never_put_in_anothers_place() -> None:
    ada, eve = make_user("ada"), make_user("eve")
    audit.record(by=ada, action="something", target="thing:1")
    update = "UPDATE accounts_auditentry SET"
    of_ada = f"WHERE actor_id = {ada.pk}"

    assert refused(f"{update} actor_id = {eve.pk} {of_ada}") == "accounts_auditentry_append_only"
    assert refused(f"{update} actor_id = NULL, actor_name = 'eve' {of_ada}")
    ask(f"{update} actor_id = NULL {of_ada}")
    assert refused(f"{update} actor_id = {ada.pk} WHERE actor_name = 'ada'")
