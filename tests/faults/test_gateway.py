"""The gateway loses its rules, its cables, its machine or its time; strangers sit on ports."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from lab import Lab
from tests.faults import windows
from tests.faults.case import Fault
from tests.faults.proxy import REMOVE, EngineProxy, Mode
from tests.integration.desk import FINAL, Answer, Desk
from tests.live import RunningStack, wait_for

smoke = pytest.mark.smoke
CUT_WITHIN_S = 30.0
JUMPS = ("iptables -t nat {} PREROUTING -j BERTH-DNAT", "iptables {} FORWARD -j BERTH-FORWARD")
#: For what a customer does who stays: it asks again and again, and says when it was answered last and how it ended.
_STREAM = """
import json, os, socket, sys, threading, time
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
began, answered = time.monotonic(), 0.0
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5) as s:
    print("connected", flush=True)
    s.settimeout(3)
    try:
        while time.monotonic() - began < 120:
            s.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
            if not s.recv(65536):
                break
            answered = time.time()
            time.sleep(0.1)
    except OSError:
        pass
print(json.dumps(answered), flush=True)
"""
_LISTEN = "import socket, sys; s = socket.create_server(('', int(sys.argv[1]))); sys.stdin.read()"


def _on_gateway(lab: Lab, *commands: str) -> str:
    return lab.exec("gateway", ["sh", "-ec", "\n".join(commands)]).stdout


def _rules(lab: Lab) -> str:
    """Berth's own rules and the jumps to them."""
    saved = _on_gateway(lab, "iptables-save -t nat", "iptables-save -t filter")
    return "\n".join(line for line in saved.splitlines() if line.startswith("-A") and "BERTH-" in line)


def _others(lab: Lab) -> list[str]:
    """The operator's own rules of the filter table."""
    saved = _on_gateway(lab, "iptables-save -t filter").splitlines()
    return [line for line in saved if line.startswith("-A") and "BERTH-" not in line]


def _is_over(desk: Desk, number: int) -> Callable[[], bool]:
    return lambda: desk.get(number)["state"] in FINAL


def _serves(desk: Desk, reservation: Answer) -> Callable[[], bool]:
    return lambda: desk.fetch(reservation) == "200"


@contextmanager
def _stream(desk: Desk, reservation: Answer) -> Iterator[Callable[[], float]]:
    """An open connection of a customer. What is yielded waits for its end: when it was answered last, as time.time."""
    endpoint = reservation["endpoints"][0]
    argv = ["/usr/bin/python3", "-c", _STREAM, endpoint["host"], str(endpoint["port"])]
    process = desk.lab.popen("outside", argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout
        assert process.stdout.readline() == "connected\n"
        yield lambda: _last_answer(process)
    finally:
        process.communicate(timeout=10)  # the end of its input is its end


def _last_answer(process: "subprocess.Popen[str]") -> float:
    assert process.stdout
    return float(json.loads(process.stdout.readline()))


@contextmanager
def _listening(lab: Lab, machine: str, port: int) -> Iterator[None]:
    """A stranger's program on this port of the machine."""
    process = lab.popen(machine, ["/usr/bin/python3", "-c", _LISTEN, str(port)], stdin=subprocess.PIPE)
    try:
        wait_for(lambda: f":{port} " in lab.exec(machine, ["ss", "-Hltn"]).stdout, seconds=10)
        yield
    finally:
        process.communicate(timeout=10)  # the end of its input is its end


# ---- rules ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "commands",
    [
        pytest.param(["iptables -t nat -F BERTH-DNAT", "iptables -F BERTH-FORWARD"], id="chains", marks=smoke),
        pytest.param([jump.format("-D") for jump in JUMPS], id="jumps"),
        pytest.param(["iptables -t nat -F PREROUTING", "iptables -F FORWARD"], id="built_in_chains"),
        pytest.param(["iptables -t nat -F", "iptables -F", "iptables -t nat -X", "iptables -X"], id="everything"),
    ],
)
def test_the_rules_are_flushed(desk: Desk, lab: Lab, stack: RunningStack, fault: Fault, commands: list[str]) -> None:
    runs = desk.running("nginx", size="tiny")
    before, others = _rules(lab), _others(lab)
    stack.stop("beat")  # so that nobody mends it before it was looked at
    _on_gateway(lab, *commands)
    assert desk.fetch(runs) == "000"

    begin = time.monotonic()
    with fault.healing():
        # Whoever flushed them puts the operator's own rules back; Berth's are Berth's.
        missing = [line for line in others if line not in _others(lab)]
        lab.exec("gateway", ["iptables-restore", "--noflush"], input="\n".join(["*filter", *missing, "COMMIT", ""]))
        stack.start("beat")
        wait_for(lambda: _serves(desk, runs)() and _rules(lab) == before, seconds=40, interval=0.2)
        fault.note(f"reached again after {time.monotonic() - begin:.1f} s")


@smoke
def test_somebody_puts_rules_into_our_chains(desk: Desk, lab: Lab, stack: RunningStack, fault: Fault) -> None:
    runs = desk.running("nginx", size="tiny")
    endpoint, node = runs["endpoints"][0], next(node for node in lab.info.nodes if node.name == runs["node"])
    before = _rules(lab)
    stack.stop("beat")
    _on_gateway(
        lab,
        f"iptables -t nat -I BERTH-DNAT -d {endpoint['host']} -p tcp --dport {endpoint['port'] + 1}"
        f" -j DNAT --to-destination {node.address}:22",
        f"iptables -I BERTH-FORWARD -d {node.address} -p tcp --dport 22 -j ACCEPT",
    )
    opened = (endpoint["host"], endpoint["port"] + 1)
    assert desk.open_ports([opened]) == {opened}

    begin = time.monotonic()
    with _stream(desk, runs), fault.healing():
        stack.start("beat")
        wait_for(lambda: not desk.open_ports([opened]) and _rules(lab) == before, seconds=40, interval=0.2)
        fault.note(f"gone after {time.monotonic() - begin:.1f} s")


def test_an_open_connection_is_cut_at_the_end(desk: Desk, fault: Fault, proxy: EngineProxy) -> None:
    """Its container is still there: a rule that is gone is no end of what passed it before."""
    reservation = desk.running("nginx", size="tiny")
    with _stream(desk, reservation) as answered_last:
        held = proxy.disturb(Mode.HOLD, REMOVE)
        end = windows.now(desk) + timedelta(seconds=2)
        windows.end_at(desk, reservation["id"], end)
        held.wait_seen()
        late = answered_last() - end.timestamp()
        assert desk.on_node(reservation["node"], desk.container(reservation["id"]))
        fault.note(f"cut {late:.1f} s after the end")
        assert late < CUT_WITHIN_S

    with fault.healing():
        proxy.heal()
        wait_for(_is_over(desk, reservation["id"]), seconds=60)


# ---- the machine --------------------------------------------------------------------------------------------------


@smoke
@pytest.mark.faults(seconds=200)
def test_the_gateway_is_rebooted_with_work_under_way(desk: Desk, lab: Lab, fault: Fault) -> None:
    runs, ends = desk.running("nginx", size="tiny"), desk.running("nginx", size="tiny")
    windows.end_at(desk, ends["id"], windows.now(desk) + timedelta(seconds=1))
    starts = desk.book("mysql")
    lab.reboot("gateway")

    with fault.healing():
        wait_for(_serves(desk, runs), seconds=50, interval=0.2)
        desk.until(starts["id"], "running", seconds=60)
        wait_for(_is_over(desk, ends["id"]), seconds=60)


@pytest.mark.faults(seconds=200)
def test_the_gateway_is_cut_off_during_a_start(desk: Desk, lab: Lab, fault: Fault) -> None:
    lab.cut("gateway")
    number = desk.book("nginx", size="tiny")["id"]
    wait_for(lambda: "gateway" in desk.get(number)["reason"], seconds=60)
    assert desk.get(number)["state"] == "starting"

    with fault.healing():
        lab.heal("gateway")
        desk.until(number, "running", seconds=60)


@pytest.mark.faults(seconds=240)
def test_the_gateway_is_cut_off_at_the_end(desk: Desk, lab: Lab, fault: Fault) -> None:
    reservation = desk.running("nginx", size="tiny")
    lab.cut("gateway")
    windows.end_at(desk, reservation["id"], windows.now(desk) + timedelta(seconds=1))
    wait_for(lambda: desk.get(reservation["id"])["reason"], seconds=60)
    assert desk.get(reservation["id"])["state"] == "ending"
    assert "BERTH-DNAT -d" in _rules(lab)

    with fault.healing():
        lab.heal("gateway")
        wait_for(lambda: "BERTH-DNAT -d" not in _rules(lab), seconds=60)
        assert desk.get(reservation["id"])["state"] not in FINAL, "it was over before its rule was gone"
        wait_for(_is_over(desk, reservation["id"]), seconds=60)


@contextmanager
def _deaf(lab: Lab) -> Iterator[None]:
    """The gateway goes on forwarding, and nobody can tell it anything."""
    rule = "INPUT -p tcp --dport 22 -j DROP"
    _on_gateway(lab, f"iptables -I {rule}")
    try:
        yield
    finally:
        _on_gateway(lab, f"iptables -D {rule}")


@pytest.mark.parametrize("how", ["its time is over", pytest.param("it is deleted", marks=smoke)])
@pytest.mark.faults(seconds=240)
def test_the_gateway_forwards_but_obeys_no_more(desk: Desk, lab: Lab, fault: Fault, how: str) -> None:
    """Its rules cannot be taken away, and yet nobody may be reached through them."""
    reservation = desk.running("nginx", size="tiny")
    with _deaf(lab):
        assert desk.fetch(reservation) == "200"
        with _stream(desk, reservation) as answered_last:
            end = windows.now(desk)
            if how == "it is deleted":
                desk.delete(reservation["id"])
            else:
                windows.end_at(desk, reservation["id"], end)
            late = answered_last() - end.timestamp()
        fault.note(f"cut {late:.1f} s after the end")
        assert late < CUT_WITHIN_S
        assert desk.fetch(reservation) == "000"
        assert desk.get(reservation["id"])["state"] == "ending"
        assert "BERTH-DNAT -d" in _rules(lab)

    with fault.healing():
        wait_for(_is_over(desk, reservation["id"]), seconds=60)


# ---- the lock of iptables -----------------------------------------------------------------------------------------


@contextmanager
def _with_the_older_iptables(lab: Lab) -> Iterator[None]:
    """Only that one has a lock: what Debian has by default speaks to the kernel in transactions."""

    def use(kind: str) -> None:
        for tool in ("iptables", "iptables-restore", "iptables-save"):
            there = f"/usr/sbin/{tool.replace('iptables', f'iptables-{kind}')}"
            _on_gateway(lab, f"ln -sf {there} /etc/alternatives/{tool}")

    use("legacy")
    try:
        yield
    finally:
        use("nft")
        for table in ("nat", "filter"):
            _on_gateway(lab, f"iptables-legacy -t {table} -F", f"iptables-legacy -t {table} -X")


@pytest.mark.parametrize("seconds", [8, 40])
@pytest.mark.faults(seconds=240)
def test_somebody_holds_the_lock_of_iptables(desk: Desk, lab: Lab, fault: Fault, seconds: int) -> None:
    ends = desk.running("nginx", size="tiny")
    with _with_the_older_iptables(lab):
        lock = lab.popen("gateway", ["flock", "/run/xtables.lock", "cat"], stdin=subprocess.PIPE)
        held = time.monotonic()
        desk.delete(ends["id"])
        starts = desk.book("nginx", size="tiny")
        wait_for(lambda: time.monotonic() - held >= seconds, seconds=seconds + 5)
        assert desk.get(starts["id"])["state"] == "starting"
        assert desk.get(ends["id"])["state"] == "ending"

        begin = time.monotonic()
        lock.communicate(timeout=10)
        desk.until(starts["id"], "running", seconds=60)
        wait_for(_is_over(desk, ends["id"]), seconds=60)
        fault.note(f"both done after {time.monotonic() - begin:.1f} s")
    with fault.healing():
        wait_for(_serves(desk, desk.get(starts["id"])), seconds=60)


# ---- strangers on ports -------------------------------------------------------------------------------------------


def _node_port(desk: Desk, number: int) -> int:
    [[port]] = desk.sql(
        "SELECT f.node_port FROM compute_forward f JOIN reservations_endpoint e ON e.forward_id = f.id"
        " WHERE e.reservation_id = %s",
        number,
    )
    return int(port)


@smoke
def test_a_stranger_sits_on_the_nodes_port(desk: Desk, lab: Lab, fault: Fault) -> None:
    booked = desk.book("nginx", size="tiny", start=(windows.now(desk) + timedelta(hours=1)).isoformat())
    number, port = booked["id"], _node_port(desk, booked["id"])
    with _listening(lab, booked["node"], port):
        windows.begin_at(desk, number, windows.now(desk))
        with fault.healing():
            runs = desk.until(number, "running", seconds=60)
            assert _node_port(desk, number) != port
            assert desk.fetch(runs) == "200"
    assert any("port of the node was in use" in text for _, text in desk.history(number))


def test_the_gateway_itself_listens_on_the_public_port(desk: Desk, lab: Lab, fault: Fault) -> None:
    booked = desk.book("nginx", size="tiny", start=(windows.now(desk) + timedelta(hours=1)).isoformat())
    number = booked["id"]
    with _listening(lab, "gateway", _node_port(desk, number)):
        windows.begin_at(desk, number, windows.now(desk))
        with fault.healing():
            runs = desk.until(number, "running", seconds=60)
            assert desk.fetch(runs) == "200"
