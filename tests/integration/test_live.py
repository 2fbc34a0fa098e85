"""What open pages hear, from the running process."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from django.conf import settings
from django.core import signing

from portal.live import tickets
from tests.integration.desk import Desk
from tests.live import RunningStack, wait_for


def events(answer: requests.Response) -> Iterator[tuple[str, Any]]:
    """Name and data of each event, pings left out."""
    name = ""
    for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: ") and name:
            yield name, json.loads(line.removeprefix("data: "))
            name = ""


def ticket_of(stack: RunningStack, user_id: int) -> str:
    settings.SECRET_KEY = stack.env["SECRET_KEY"]
    return tickets.ticket(user_id)


@contextmanager
def listening(stack: RunningStack, ticket: str) -> Iterator[requests.Response]:
    address = f"{stack.env['BERTH_LIVE_URL'].rstrip('/')}/events"
    with requests.get(address, params={"ticket": ticket}, stream=True, timeout=30) as answer:
        yield answer


def user_of(desk: Desk) -> int:
    [[number]] = desk.sql("SELECT id FROM accounts_user WHERE username = %s", desk.username)
    return int(number)


def test_a_page_hears_each_state_of_its_reservation_and_nothing_of_others(desk: Desk, stack: RunningStack) -> None:
    with listening(stack, ticket_of(stack, user_of(desk))) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        heard = events(answer)
        assert next(heard)[0] == "hello"
        number = desk.book("nginx", size="tiny")["id"]
        states = []
        for name, data in heard:
            if name == "news":  # that it started
                continue
            assert (name, data["id"], data["listeners"]) == ("reservation", number, 1)
            states.append(data["state"])
            if data["state"] == "running":
                break
        assert states[-1] == "running"
        desk.delete(number)
        for _, data in heard:
            if data.get("state") == "ended":
                break


def test_nobody_listens_without_a_ticket(desk: Desk, stack: RunningStack) -> None:
    for bad in ("", "7", "x" * 5000, signing.dumps(user_of(desk), salt="another")):
        with listening(stack, bad) as answer:
            assert answer.status_code == 401, bad[:20]
    with listening(stack, ticket_of(stack, 2**40)) as answer:
        assert answer.status_code == 401


def test_who_is_switched_off_hears_no_more_and_a_killed_process_is_there_again(desk: Desk, stack: RunningStack) -> None:
    ticket = ticket_of(stack, user_of(desk))
    with listening(stack, ticket) as answer:
        heard = events(answer)
        assert next(heard)[0] == "hello"
        stack.kill("live")
        with pytest.raises(requests.exceptions.ChunkedEncodingError):  # it ends in the midst
            list(heard)

    def again() -> bool:
        try:
            with listening(stack, ticket) as answer:
                return answer.status_code == 200
        except requests.ConnectionError:
            return False

    wait_for(again, seconds=30)
    desk.sql("UPDATE accounts_user SET is_active = false WHERE username = %s", desk.username)
    try:
        with listening(stack, ticket) as answer:
            assert answer.status_code == 401
    finally:
        desk.sql("UPDATE accounts_user SET is_active = true WHERE username = %s", desk.username)


def test_a_connection_that_the_database_ended_is_made_again_before_anybody_is_refused(
    desk: Desk, stack: RunningStack
) -> None:
    ticket = ticket_of(stack, user_of(desk))
    with listening(stack, ticket) as answer:
        assert answer.status_code == 200
    asked = "FROM pg_stat_activity WHERE query LIKE %s AND state = 'idle'"
    like = "%array_agg(member.workspace_id)%"
    wait_for(lambda: desk.sql(f"SELECT pid {asked}", like))  # the words are above
    desk.sql(f"SELECT pg_terminate_backend(pid) {asked}", like)
    with listening(stack, ticket) as answer:
        assert answer.status_code == 200
