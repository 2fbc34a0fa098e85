"""`python -m lab probe NAME`: books real reservations on the lab's portal and tries to get out of their containers.

Each try has one outcome that is right. For what must not be reached there is a control: the same address is asked
from where it may be asked, so that a try cannot be right because nothing listens there. The tries themselves are in
probe.pl, which perl runs inside of a container, as root or as the customer's user. docs/room.md tells what they mean.
"""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .lab import Lab
from .probe_cases import Case, Place, Room, cases_of, limits_of
from .process import LabError, wait_until
from .stack.layout import REPO
from .stack.stack import Stack

SCRIPT = Path(__file__).with_name("probe.pl")
SERVICES = ("shell", "nginx")  # one that may go out to the internet, and one that may not
NEIGHBOUR = "nginx"
USER = 911  # of the shell's image
MOST_BOOKINGS = 8
START_SECONDS = 90
END_SECONDS = 60
TRY_SECONDS = 90


@dataclass(frozen=True)
class Result:
    """A try, what came of it, and whether the control was as it should be ("" without a control)."""

    room: str
    case: Case
    actual: str
    control: str = ""

    @property
    def right(self) -> bool:
        return self.actual in self.case.expected and self.control in {"", "open"}


@dataclass
class Portal:
    """The lab's portal as a customer's program sees it."""

    stack: Stack
    token: str = ""
    booked: list[int] = field(default_factory=list)

    def log_in(self) -> None:
        python = str(REPO / ".venv/bin/python")
        done = self.stack.run([python, "manage.py", "create_token", "admin", "--name", "probe", "--days", "1"])
        self.token = done.stdout.split()[-1]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(  # noqa: S310 - the portal's own address, over http in the lab
            f"{self.stack.base_url}/api/v1{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                text = answer.read()
        except OSError as problem:
            detail = problem.read().decode(errors="replace")[:300] if hasattr(problem, "read") else ""
            raise LabError(f"{method} {path}: {problem} {detail}") from problem
        return json.loads(text) if text else None

    def book(self, service: str) -> Any:
        body = {"service": service, "size": "tiny", "hours": 1, "storage": "C1", "name": "probe"}
        number = self.call("POST", "/reservations", body)["id"]
        self.booked.append(number)
        deadline = time.monotonic() + START_SECONDS
        while (found := self.call("GET", f"/reservations/{number}"))["state"] != "running":
            if found["state"] in {"ended", "failed"} or time.monotonic() > deadline:
                raise LabError(f"the reservation of {service} is {found['state']}: {found['reason']}")
            time.sleep(0.2)
        return found

    def clear(self) -> None:
        """Delete what was booked, and wait until it is gone."""
        for number in self.booked:
            self.call("DELETE", f"/reservations/{number}")
        for number in self.booked:
            if not wait_until(lambda n=number: self._is_over(n), seconds=END_SECONDS, interval=0.2):  # type: ignore[misc]
                raise LabError(f"reservation {number} of the probe does not end")

    def _is_over(self, number: int) -> bool:
        return self.call("GET", f"/reservations/{number}")["state"] in {"ended", "failed"}


def run(lab_name: str, stack_name: str, echo: Callable[[str], None]) -> list[Result]:
    """Book, try everything, delete. Raises LabError when that cannot be done."""
    lab, portal = Lab(lab_name), Portal(Stack(stack_name))
    if not portal.stack.base_url:
        raise LabError(f"there is no stack {stack_name}: run `python -m lab.stack up {stack_name} --lab {lab_name}`")
    portal.log_in()
    try:
        rooms, neighbours = _book(lab, portal)
        echo("; ".join(f"{room.service} on {room.node}" for room in (*rooms, *neighbours)))
        results: list[Result] = []
        with _way_out(lab), socket.create_server((lab.info.management_address, 0)) as listener:
            for room in rooms:
                results += _try_all(lab, room, cases_of(room, neighbours, lab.info, listener.getsockname()[1]))
        for room in rooms:  # last: some are killed in them
            results += _try_limits(lab, portal, room)
        return results
    finally:
        portal.clear()


def table(results: Iterable[Result]) -> list[str]:
    """Lines for people; what is not right begins with a cross."""
    lines, last = [], ""
    rows = list(results)
    widths = [
        max(len(text) for text in column) for column in zip(*((r.case.what, r.actual) for r in rows), strict=True)
    ]
    for result in rows:
        head = f"{result.room}: {result.case.group}"
        if head != last:
            lines += ["", head]
            last = head
        control = f"  (from elsewhere: {result.control})" if result.control else ""
        mark = "ok" if result.right else "XX"
        wanted = " or ".join(sorted(result.case.expected))
        who = "" if result.case.who == "root" else f" as {result.case.who}"
        lines.append(
            f"  {mark}  {result.case.what:<{widths[0]}}  {result.actual:<{widths[1]}}  expected: {wanted}{who}{control}"
        )
    wrong = sum(not result.right for result in rows)
    return [*lines, "", f"{len(rows)} tries, {wrong} not as expected"]


def as_json(results: Iterable[Result]) -> str:
    rows = [
        {
            "room": r.room,
            "group": r.case.group,
            "what": r.case.what,
            "who": r.case.who,
            "expected": sorted(r.case.expected),
            "actual": r.actual,
            "control": r.control,
            "right": r.right,
        }
        for r in results
    ]
    return json.dumps(rows, indent=2)


@contextmanager
def _way_out(lab: Lab) -> Iterator[None]:
    """What an operator's router does and the lab's gateway does not: it lets the private network out under its address.

    Without it nobody inside would reach the internet, and a try that is blocked would tell nothing.
    """
    rule = ["-s", lab.info.private_subnet, "-m", "comment", "--comment", "probe", "-j", "MASQUERADE"]
    out, back = ["POSTROUTING", "-o", "eth1", *rule], ["POSTROUTING", "-m", "conntrack", "--ctstate", "DNAT", *rule]
    nat = ["iptables", "-w", "5", "-t", "nat"]
    try:
        for match in (out, back):
            lab.exec("gateway", [*nat, "-A", *match])
        yield
    finally:
        for match in (out, back):
            lab.exec("gateway", [*nat, "-D", *match], check=False)


def _book(lab: Lab, portal: Portal) -> tuple[list[Room], list[Room]]:
    """A room of each service, and a neighbour on every node."""
    rooms = [_room(lab, portal.book(service)) for service in SERVICES]
    neighbours: dict[str, Room] = {}
    for _ in range(MOST_BOOKINGS):
        if len(neighbours) == len(lab.info.nodes):
            return rooms, list(neighbours.values())
        room = _room(lab, portal.book(NEIGHBOUR))
        neighbours.setdefault(room.node, room)
    raise LabError("no neighbour came to every node: is one of them out of service?")


def _room(lab: Lab, reservation: Any) -> Room:
    node, number = reservation["node"], reservation["id"]
    names = lab.exec(node, ["docker", "ps", "--format", "{{.Names}}", "-f", f"label=berth.reservation={number}"]).stdout
    raw = json.loads(lab.exec(node, ["docker", "inspect", names.split()[0]]).stdout)[0]
    [network] = raw["NetworkSettings"]["Networks"].values()
    [bindings] = raw["HostConfig"]["PortBindings"].values()
    endpoint = reservation["endpoints"][0]
    return Room(
        service=reservation["service"],
        number=number,
        node=node,
        container=names.split()[0],
        inside=Place(network["IPAddress"], endpoint["container_port"]),
        on_node=Place(bindings[0]["HostIp"], int(bindings[0]["HostPort"])),
        public=Place(endpoint["host"], endpoint["port"]),
        bridge=network["Gateway"],
        ram_mib=raw["HostConfig"]["Memory"] // 2**20,
        read_only=raw["HostConfig"]["ReadonlyRootfs"],
        capabilities=tuple(name.removeprefix("CAP_") for name in raw["HostConfig"]["CapAdd"]),
    )


def _try_all(lab: Lab, room: Room, cases: list[Case]) -> Iterator[Result]:
    actual = dict(zip(range(len(cases)), [""] * len(cases), strict=True))
    with _set_user_id_program(lab, room):
        for who in sorted({case.who for case in cases}):
            mine = {number: case for number, case in enumerate(cases) if case.who == who}
            actual |= _inside(lab, room, who, mine)
    with ThreadPoolExecutor(8) as pool:
        controls = list(pool.map(lambda case: _control(lab, case), cases))
    for number, case in enumerate(cases):
        yield Result(room.service, case, actual[number], controls[number])


def _try_limits(lab: Lab, portal: Portal, room: Room) -> Iterator[Result]:
    """One by one, and after them the container must still serve."""
    for case in limits_of(room):
        yield Result(room.service, case, _inside(lab, room, case.who, {0: case})[0])
    survived = Case("limits", "its service answers after that", "tcp", (), frozenset({"open"}))
    state = portal.call("GET", f"/reservations/{room.number}")["state"]
    answers = _connects(room.on_node)
    yield Result(room.service, survived, "open" if answers and state == "running" else f"{state}, answers: {answers}")


def _inside(lab: Lab, room: Room, who: str, cases: dict[int, Case]) -> dict[int, str]:
    """What came of each, by its number."""
    lines = ["\t".join([str(number), case.kind, *map(str, case.arguments)]) for number, case in cases.items()]
    argv = ["docker", "exec", "-i", "-u", "0" if who == "root" else str(USER), room.container]
    argv += ["perl", "-e", SCRIPT.read_text()]
    text = "".join(f"{line}\n" for line in lines)
    done = lab.exec(room.node, argv, input=text, check=False, timeout=TRY_SECONDS)
    found = dict.fromkeys(cases, f"no outcome: exit code {done.returncode} {done.stderr.strip()[-200:]}")
    if done.returncode == 137:  # the kernel took the whole tree of processes
        found = dict.fromkeys(cases, "killed")
    for line in done.stdout.splitlines():
        number, _, outcome = line.partition("\t")
        found[int(number)] = outcome
    return found


@contextmanager
def _set_user_id_program(lab: Lab, room: Room) -> Iterator[None]:
    """Root's own `id`, marked set-user-id, where the file system takes it: a customer with root could make one."""
    if room.read_only:
        yield
        return
    command = "cp /usr/bin/id /probe-id && chmod 4755 /probe-id"
    lab.exec(room.node, ["docker", "exec", "-u", "0", room.container, "sh", "-c", command])
    yield
    lab.exec(room.node, ["docker", "exec", "-u", "0", room.container, "rm", "-f", "/probe-id"])


def _control(lab: Lab, case: Case) -> str:
    """Whether it can be reached from where it may be: from a machine of the lab, or ("") from here."""
    if case.control is None:
        return ""
    host, port = case.arguments
    place, machine = Place(str(host), int(port)), case.control
    if not machine:
        return "open" if _connects(place) else "closed"
    connect = f"exec 3<>/dev/tcp/{place.host}/{place.port}"
    done = lab.exec(machine, ["timeout", "3", "bash", "-c", connect], check=False)
    return "closed" if done.returncode else "open"


def _connects(place: Place) -> bool:
    try:
        with socket.create_connection((place.host, place.port), timeout=3):
            return True
    except OSError:
        return False
