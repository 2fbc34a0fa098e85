"""What happens by itself at a time. The steps are quarters of an hour, so the rows' times are moved by SQL."""

from datetime import UTC, datetime, timedelta

from tests.faults import windows
from tests.integration.desk import Desk
from tests.live import wait_for


def test_it_ends_by_itself_on_time(desk: Desk) -> None:
    reservation = desk.running("nginx", size="tiny")
    name, place = desk.container(reservation["id"]), reservation["endpoints"][0]

    # The loop looks again at the end, and that has come nearer.
    desk.sql(
        "UPDATE reservations_reservation SET \"end\" = now() + interval '1 second',"
        " look_at = now() + interval '1 second' WHERE id = %s",
        reservation["id"],
    )

    wait_for(lambda: desk.get(reservation["id"])["state"] == "ended", seconds=15)
    assert not desk.on_node(reservation["node"], name)
    assert desk.open_ports([(place["host"], place["port"])]) == set()
    held = desk.sql(
        "SELECT count(*) FROM compute_allocation a JOIN reservations_container c ON c.allocation_id = a.id"
        " WHERE c.reservation_id = %s AND a.released_at IS NULL",
        reservation["id"],
    )
    assert held == [(0,)]
    assert ("ending", "The booked time is over.") in desk.history(reservation["id"])


def test_one_for_later_waits_and_starts_by_itself(desk: Desk) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    reservation = desk.book("nginx", size="tiny", start=tomorrow)
    desk.running("nginx", size="tiny")  # the loop has been round since
    assert desk.get(reservation["id"])["state"] == "booked"
    assert not desk.on_node(reservation["node"], desk.container(reservation["id"]))

    # As if a day had passed: no hint is sent, the sweep has to find it.
    windows.begin_at(desk, reservation["id"], windows.now(desk))

    running = desk.until(reservation["id"], "running", seconds=15)
    assert desk.fetch(running) == "200"


def test_a_booking_for_later_can_be_deleted(desk: Desk) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    reservation = desk.book("nginx", start=tomorrow)

    desk.delete_and_wait(reservation["id"], seconds=10)

    assert desk.get(reservation["id"])["state"] == "ended"
