"""One id leads from the customer's request to what the worker told the machines; no credential is on the way."""

import secrets

from tests.integration.desk import Desk
from tests.live import RunningStack, wait_for


def lines_with(stack: RunningStack, program: str, text: str) -> list[str]:
    return [line for line in stack.log_text(program).splitlines() if text in line]


def test_the_id_of_a_booking_is_in_the_lines_of_web_worker_and_drivers(desk: Desk, stack: RunningStack) -> None:
    name = f"booking-{secrets.token_hex(6)}"
    desk.api.session.headers["X-Request-ID"] = name
    try:
        answer = desk.try_to_book("redis")
    finally:
        del desk.api.session.headers["X-Request-ID"]
    number = answer.json()["id"]
    desk.until(number, "running")

    def loggers() -> set[str]:
        """Who wrote lines with the id, in the worker."""
        return {line.split()[3].rstrip(":") for line in lines_with(stack, "worker", f"request_id={name}")}

    wanted = {"reservations.transitions", "compute.breaker", "compute.forwarding", "compute.volumes"}
    assert answer.headers["X-Request-ID"] == name
    assert wait_for(lambda: wanted <= loggers(), seconds=10)
    (line,) = lines_with(stack, "web", name)
    assert "portal.requests: POST /api/v1/reservations 201" in line
    told = lines_with(stack, "worker", f"request_id={name}")
    assert [line for line in told if f"reservation={number}" not in line] == []


def test_no_log_has_the_credentials_of_a_reservation_or_the_token(desk: Desk, stack: RunningStack) -> None:
    reservation = desk.running("redis")
    credentials = [value for value in reservation["credentials"].values() if len(value) > 7]
    token = str(desk.api.session.headers["Authorization"]).removeprefix("Bearer ")

    assert credentials
    for program in ("web", "worker", "beat"):
        text = stack.log_text(program)
        assert [secret for secret in (*credentials, token) if secret in text] == [], program


def test_a_wrong_token_is_told_with_the_id_of_the_request(stack: RunningStack, desk: Desk) -> None:
    answer = desk.api.session.get(f"{desk.api.base}/reservations", headers={"Authorization": "Bearer x"}, timeout=30)

    assert answer.status_code == 401
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
