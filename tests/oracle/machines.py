"""What is really on the machines, by their own tools, and the promises it can break (1 to 3, and 5 in truth)."""

import ipaddress
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lab import Lab
from lab.leftovers import forgotten_loop_devices
from tests.oracle.rows import LIVE, Row, Rows

_NODE = """
echo "== containers"; docker ps -aq --no-trunc --filter label=berth.reservation | xargs -r docker inspect || true
echo "== all"; docker ps -a --format '{{.Names}}'
echo "== networks"; docker network ls --format '{{.Name}}'
echo "== volumes"; docker volume ls --format '{{.Name}}'
echo "== mounts"; findmnt -rn -o TARGET
echo "== images"; ls /var/lib/berth/images 2>/dev/null || true
echo "== processes"; ps -eo args
"""
_GATEWAY = """
echo "== nat"; iptables-save -t nat
echo "== filter"; iptables-save -t filter
echo "== connections"; conntrack -L -o extended 2>/dev/null || true
"""
_DNAT = re.compile(r"-A BERTH-DNAT -d ([\d.]+)/32 -p tcp -m tcp --dport (\d+) -j DNAT --to-destination ([\d.]+):(\d+)")
_PASS = re.compile(
    r"-A BERTH-FORWARD (?:-s ([\d./]+) )?-d ([\d.]+)/32 -p tcp -m conntrack --ctstate DNAT --ctorigdstport (\d+)"
    r" -m tcp --dport (\d+) -j (ACCEPT|DROP)"
)
_MIDDLE = re.compile(
    r"-A BERTH-FORWARD -s ([\d.]+)/32 -p tcp -m conntrack --ctstate NEW -m tcp --sport (\d+)"
    r" ! --tcp-flags FIN,SYN,RST,ACK SYN -j DROP"
)
#: Who asks whom on which port, and who answers from which.
_TRACKED = re.compile(
    r"tcp +6 .*?src=([\d.]+) dst=([\d.]+) sport=\d+ dport=(\d+).*?src=([\d.]+) dst=[\d.]+ sport=(\d+)"
)
VOLUMES, STORES = "/var/lib/berth/volumes/", "/var/lib/berth/stores/"


@dataclass(frozen=True)
class NodeSeen:
    """A node as its engine and its kernel tell it."""

    containers: dict[str, Any]
    networks: set[str]
    volumes: set[str]
    mounts: Counter[str]
    images: set[str]
    sshfs: Counter[str]
    forgotten_loops: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class GatewaySeen:
    nat: list[str]
    filter: list[str]
    connections: list[str]


@dataclass(frozen=True)
class Machines:
    """One look at the whole lab."""

    nodes: dict[str, NodeSeen]
    gateway: GatewaySeen
    stored: set[str]


def look(lab: Lab) -> Machines:
    gateway = _sections(lab.exec("gateway", ["sh", "-c", _GATEWAY]).stdout)
    stored = lab.exec("storage", ["ls", "/var/lib/storage/volumes"]).stdout.split()
    return Machines(
        {node.name: _look_at_node(lab, node.name) for node in lab.info.nodes},
        GatewaySeen(
            [line for line in gateway["nat"] if line.startswith("-A")],
            [line for line in gateway["filter"] if line.startswith("-A")],
            gateway["connections"],
        ),
        {name for name in stored if name.startswith("vol-")},
    )


def _look_at_node(lab: Lab, name: str) -> NodeSeen:
    seen = _sections(lab.exec(name, ["sh", "-c", _NODE]).stdout)
    inspected = json.loads("".join(seen["containers"]) or "[]")
    sshfs = [line for line in seen["processes"] if line.startswith("sshfs ")]
    return NodeSeen(
        containers={row["Name"].lstrip("/"): row for row in inspected},
        networks={line for line in seen["networks"] if line.startswith("berth-")},
        volumes={line for line in seen["volumes"] if line.startswith("berth-")},
        mounts=Counter(line for line in seen["mounts"] if line.startswith("/var/lib/berth/")),
        images={line.partition(".img")[0] for line in seen["images"] if ".img" in line},
        sshfs=Counter(found.group() for line in sshfs if (found := re.search(r"vol-\d+", line))),
        forgotten_loops=[str(device) for device in forgotten_loop_devices(lab.machine(name).root)],
    )


def _sections(text: str) -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("== "):
            sections[line[3:]] = []
        else:
            sections[next(reversed(sections))].append(line)
    return sections


def violations(rows: Rows, machines: Machines) -> Iterator[str]:
    for node in rows["nodes"]:
        if node["name"] in machines.nodes:
            yield from _containers(rows, node, machines.nodes[node["name"]])
            yield from _storage_on_node(rows, node, machines.nodes[node["name"]])
            yield from _served(rows, node, machines.nodes[node["name"]])
    yield from _storage_server(rows, machines)
    yield from _gateway(rows, machines.gateway)


def _name(container: Row) -> str:
    return f"berth-{container['reservation_id']}-{container['generation']}-{container['name']}"


def _may_be_there(rows: Rows, node: Row) -> dict[str, Row]:
    """The containers that a live reservation still has on the node, by the name that they have there."""
    there = {}
    for row in rows["containers"]:
        if row["node_id"] == node["id"] and row["gone_at"] is None and row["taken_at"] and row["state"] in LIVE:
            there[_name(row)] = row
    return there


def _containers(rows: Rows, node: Row, seen: NodeSeen) -> Iterator[str]:
    """Promise 1, both ways; and promise 5 as the engine's own limits add up."""
    may = _may_be_there(rows, node)
    for name in sorted(seen.containers.keys() - may.keys()):
        yield f"1: {node['name']} has {name}, which no live reservation owns"
    for name, row in may.items():
        reservation = rows.reservation(row["reservation_id"])
        if row["generation"] != reservation["generation"]:
            yield f"1: {node['name']} may still have {name}, of an older generation"
        if row["state"] == "running" and not seen.containers.get(name, {}).get("State", {}).get("Running"):
            yield f"1: {name} should run on {node['name']} and does not"
        labels = seen.containers.get(name, {}).get("Config", {}).get("Labels", {})
        if name in seen.containers and labels.get("berth.reservation") != str(row["reservation_id"]):
            yield f"1: {name} on {node['name']} is labelled for reservation {labels.get('berth.reservation')}"
    for kind, found in (("network", seen.networks), ("volume entry", seen.volumes)):
        for name in sorted(found - may.keys()):
            yield f"3: {node['name']} has the {kind} {name}, which no live reservation owns"
    running = [c["HostConfig"] for c in seen.containers.values() if c["State"]["Running"]]
    ram_mib = sum(limits["Memory"] for limits in running) / 2**20
    cores = sum(limits["CpuQuota"] / (limits["CpuPeriod"] or 1) for limits in running)
    if ram_mib > node["ram_mib"] or cores > float(node["cores"]) + 0.001:
        yield f"5: containers on {node['name']} may use {ram_mib:g} MiB and {cores:g} cores"
    if any(not limits["Memory"] or not limits["CpuQuota"] for limits in running):
        yield f"5: a container on {node['name']} has no limit"


def _served(rows: Rows, node: Row, seen: NodeSeen) -> Iterator[str]:
    """Promise 6 as the engine tells it: nobody is charged for a time at which this container did not run yet."""
    still_open = {row["reservation_id"]: row["opens"] for row in rows["usage"] if row["closes"] is None}
    for name, row in _may_be_there(rows, node).items():
        state = seen.containers.get(name, {}).get("State", {})
        if not state.get("Running") or row["reservation_id"] not in still_open:
            continue
        began = datetime.fromisoformat(state["StartedAt"][:19] + "+00:00")  # whole seconds: nothing is rounded up
        if still_open[row["reservation_id"]] < began:
            yield f"6: {name} runs since {began} and is charged since {still_open[row['reservation_id']]}"


def _storage_on_node(rows: Rows, node: Row, seen: NodeSeen) -> Iterator[str]:
    """Promise 3 on a node: mounts, images and sshfs processes are those of its live reservations' volumes."""
    used = {row["volume_id"]: row["state"] for row in _may_be_there(rows, node).values() if row["volume_id"]}
    volumes = {f"vol-{row['id']}": row for row in rows["volumes"] if row["id"] in used}
    remote = {name for name, row in volumes.items() if row["server_id"]}
    may = {VOLUMES + name for name in volumes} | {STORES + name for name in remote}
    for path, times in seen.mounts.items():
        if path not in may:
            yield f"3: {path} is mounted on {node['name']}, and no live reservation uses it"
        elif times > 1:
            yield f"3: {path} is mounted {times} times on {node['name']}"
    for name, row in volumes.items():
        if used[row["id"]] == "running" and VOLUMES + name not in seen.mounts:
            yield f"3: {name} should be mounted on {node['name']}"
    for name in sorted(seen.images - (volumes.keys() - remote)):
        yield f"3: {node['name']} keeps the image of {name}, which no live reservation uses"
    for name, times in seen.sshfs.items():
        if name not in remote or times > 1:
            yield f"3: {node['name']} runs {times} sshfs for {name}"
    for device in seen.forgotten_loops:
        yield f"3: {node['name']} left the loop device {device} behind"


def _storage_server(rows: Rows, machines: Machines) -> Iterator[str]:
    """Promise 3 on the storage server, and that kept data is never removed."""
    owned = {f"vol-{row['id']}.img" for row in rows["volumes"] if row["server_id"] and row["state"] != "removed"}
    for name in sorted(machines.stored - owned):
        yield f"3: the storage server keeps {name}, which belongs to nobody"
    served = {row["volume_id"] for row in rows["containers"] if row["volume_id"] and row["engine_id"]}
    for row in rows["volumes"]:
        should_be_stored = row["kept"] and row["state"] != "removed" and row["id"] in served
        if should_be_stored and f"vol-{row['id']}.img" not in machines.stored:
            yield f"3: the kept volume vol-{row['id']} is gone from the storage server"
    live = {row["volume_id"] for row in rows["containers"] if row["state"] in LIVE}
    for row in rows["volumes"]:
        if not row["kept"] and row["state"] != "removed" and row["id"] not in live:
            yield f"3: volume vol-{row['id']} is {row['state']} and its reservation is over"
    where = Counter(path for seen in machines.nodes.values() for path in seen.mounts if path.startswith(VOLUMES))
    for path, nodes in where.items():
        if nodes > 1:
            yield f"4: {path} is mounted on {nodes} nodes at once"


def _gateway(rows: Rows, seen: GatewaySeen) -> Iterator[str]:
    """Promise 2: Berth's chains are exactly the forwards of what serves, and nothing else is tracked."""
    [gateway] = rows["gateways"]
    must, may = set(), set()
    for row in rows["forwards"]:
        rule = (row["public"], row["public_port"], row["node_address"], row["node_port"])
        if row["state"] == "running":
            must.add(rule)
        if row["state"] in {"starting", "running", "stopped"} and row["released_at"] is None:
            may.add(rule)
    ours = [line for line in seen.nat if line.startswith("-A BERTH-DNAT ")]
    led = [(m[1], int(m[2]), m[3], int(m[4])) for line in ours if (m := _DNAT.fullmatch(line))]
    passing = [line for line in seen.filter if line.startswith("-A BERTH-FORWARD ")]
    passed = [m for line in passing if (m := _PASS.fullmatch(line))]
    middle = [(m[1], int(m[2])) for line in passing if (m := _MIDDLE.fullmatch(line))]
    through = {(int(m[3]), m[2], int(m[4])) for m in passed}
    subnet = ipaddress.IPv4Network(gateway["private_subnet"])
    if len(led) != len(ours) or len(set(led)) != len(led):
        yield f"2: BERTH-DNAT has a rule that is no forward, or one twice: {ours}"
    if passing[:1] != ["-A BERTH-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"]:
        yield f"2: BERTH-FORWARD does not begin with what is established: {passing[:1]}"
    if passing[-1:] != [f"-A BERTH-FORWARD ! -s {subnet} -d {subnet} -j DROP"]:
        yield f"2: BERTH-FORWARD does not end with the drop: {passing[-1:]}"
    if len(passed) + len(middle) != len(passing) - 2:
        yield f"2: BERTH-FORWARD lets something else pass: {passing}"
    if {(port, node, node_port) for _, port, node, node_port in led} != through:
        yield f"2: what is led in and what may pass differ: {led} {through}"
    if sorted(middle) != sorted((m[2], int(m[4])) for m in passed if m[5] == "DROP"):
        yield f"2: what was ended could begin anew from a node, or is held back without a list: {passing}"
    lists = {row["public_port"]: row["allowed_sources"] for row in rows["forwards"] if row["wanted"]}
    for port in {port for port, _, _ in through} & lists.keys():
        verdicts = [(m[1], m[5]) for m in passed if int(m[3]) == port]
        listed = [(source, "ACCEPT") for source in lists[port]]
        if verdicts != ([*listed, (None, "DROP")] if listed else [(None, "ACCEPT")]):
            yield f"2: of port {port} the list is {lists[port]}, and the gateway has {verdicts}"
    for rule in sorted(must - set(led)):
        yield f"2: the gateway lacks {rule}"
    for rule in sorted(set(led) - may):
        yield f"2: the gateway has {rule}, which leads to nothing that serves"
    if "-A PREROUTING -j BERTH-DNAT" not in seen.nat or "-A FORWARD -j BERTH-FORWARD" not in seen.filter:
        yield "2: the gateway's own chains are not jumped to"
    for line in seen.connections:
        found = _TRACKED.search(line)
        forwarded = found and found[2] == gateway["public_address"] and found[4] != found[2]
        if found and forwarded and (found[2], int(found[3]), found[4], int(found[5])) not in may:
            yield f"2: a connection through a dead forward is tracked: {line.strip()}"
