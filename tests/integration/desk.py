"""A customer at work: books through the API, looks at the machines, and moves the portal's clock by SQL."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import requests

from lab import Lab
from tests.live import Api, RunningStack, wait_for

FINAL = {"ended", "failed"}
#: Ends the guard of a node, in its shell. Until nobody is left: the one that keeps the loop, or the loop that begins a
#: round, may have started another while the first ones were killed.
KILL_GUARD = "while pkill -9 -xf '(timeout .* )?/bin/sh .*/guard.sh (keep|loop|round)'; do :; done"
Answer = dict[str, Any]


@dataclass
class Desk:
    """One customer with room for everything; what was booked here is deleted by `clear`."""

    stack: RunningStack
    lab: Lab
    api: Api
    username: str
    booked: list[int] = field(default_factory=list)

    # what the customer does

    def try_to_book(self, service: str = "nginx", **more: Any) -> requests.Response:
        """The answer to the POST, whatever it is."""
        body = {"service": service, "size": None, "hours": 1, "storage": "C1"} | more
        answer = self.api.request("POST", "/reservations", body)
        if answer.status_code == 201:
            self.booked.append(answer.json()["id"])
        return answer

    def book(self, service: str = "nginx", **more: Any) -> Answer:
        answer = self.try_to_book(service, **more)
        assert answer.status_code == 201, f"{answer.status_code} {answer.text}"
        return dict(answer.json())

    def running(self, service: str = "nginx", *, seconds: float = 30, **more: Any) -> Answer:
        """Book it and wait until it runs."""
        return self.until(self.book(service, **more)["id"], "running", seconds=seconds)

    def get(self, number: int) -> Answer:
        return dict(self.api.get(f"/reservations/{number}"))

    def until(self, number: int, *states: str, seconds: float = 30) -> Answer:
        """The reservation as soon as it is in one of the states; fails at once when it is over instead."""

        def arrived() -> Answer | None:
            found = self.get(number)
            if found["state"] in states:
                return found
            assert found["state"] not in FINAL, f"reservation {number} {found['state']}: {found['reason']}"
            return None

        try:
            return wait_for(arrived, seconds=seconds) or {}
        except AssertionError as problem:
            raise AssertionError(f"{problem}; it is {self.get(number)}, {self.history(number)}") from problem

    def delete(self, number: int) -> None:
        self.api.delete(f"/reservations/{number}")

    def delete_and_wait(self, *numbers: int, seconds: float = 40) -> None:
        """Until nothing of them is left, as the portal says; the oracle says whether that is true."""
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(self.delete, numbers))
        for number in numbers:
            self.until(number, *FINAL, seconds=seconds)  # if it stays behind, its history says where

    def clear(self) -> None:
        booked, self.booked = self.booked, []
        self.delete_and_wait(*booked)

    # what the operator sees

    def sql(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of the portal's database; [] for what returns none."""
        with self.stack.database() as connection:
            cursor = connection.execute(query.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def history(self, number: int) -> list[tuple[Any, ...]]:
        return self.sql(
            "SELECT new_state, text FROM reservations_event WHERE reservation_id = %s ORDER BY at, id", number
        )

    def container(self, number: int) -> str:
        """The name of its container of today's generation."""
        [[generation]] = self.sql("SELECT generation FROM reservations_reservation WHERE id = %s", number)
        return f"berth-{number}-{generation}-main"

    def inspect(self, reservation: Answer) -> Answer:
        """Its container as the engine has it."""
        text = self.lab.exec(reservation["node"], ["docker", "inspect", self.container(reservation["id"])]).stdout
        return dict(json.loads(text)[0])

    def inside(self, reservation: Answer, *argv: str, check: bool = True) -> str:
        """The output of a program in its container."""
        command = ["docker", "exec", self.container(reservation["id"]), *argv]
        done = self.lab.exec(reservation["node"], command, check=check)
        return done.stdout + done.stderr

    def on_node(self, node: str, name: str) -> bool:
        """Whether the engine has a container of this name."""
        return not self.lab.exec(node, ["docker", "inspect", name], check=False).returncode

    # the outside

    def outside(self, *argv: str, timeout: float = 30) -> str:
        """The output of a program where customers are, whether or not it succeeded."""
        return self.lab.exec("outside", argv, check=False, timeout=timeout).stdout

    def fetch(self, reservation: Answer, path: str = "/") -> str:
        """The status that the outside client gets: "200", or "000" when nobody answers."""
        endpoint = reservation["endpoints"][0]
        url = f"http://{endpoint['host']}:{endpoint['port']}{path}"
        return self.outside("curl", "-s", "-m", "3", "-o", "/dev/null", "-w", "%{http_code}", url)

    def open_ports(self, places: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
        """Those that accept a connection from the outside client."""
        script = (
            "import json, socket, sys\n"
            "from concurrent.futures import ThreadPoolExecutor\n"
            "def accepts(place):\n"
            "    with socket.socket() as s:\n"
            "        s.settimeout(1.5)\n"
            "        return s.connect_ex(tuple(place)) == 0\n"
            "places = json.loads(sys.argv[1])\n"
            "found = ThreadPoolExecutor(32).map(accepts, places)\n"
            "print(json.dumps([p for p, yes in zip(places, found) if yes]))\n"
        )
        found = json.loads(self.outside("/usr/bin/python3", "-c", script, json.dumps(places)))
        return {(host, port) for host, port in found}
