"""Promise 8: what a stranger on the internet reaches is exactly what serves at this moment, through the gateway.

Asked from the lab's outside client with plain connections; what is being started or taken down may be either way.
"""

import ipaddress
import json
from collections.abc import Iterator

from lab import Lab
from tests.oracle.rows import Row, Rows

MOST_PORTS = 150  # the latest ones that were ever lent
_SCRIPT = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def accepts(place):
    with socket.socket() as s:
        s.settimeout(1.0)
        return s.connect_ex(tuple(place)) == 0
places = json.loads(sys.stdin.read())
found = ThreadPoolExecutor(256).map(accepts, places)  # those that drop us cost a second each
print(json.dumps([p for p, yes in zip(places, found) if yes]))
"""


def violations(rows: Rows, lab: Lab) -> Iterator[str]:
    forwards = sorted(rows["forwards"], key=lambda row: -row["id"])[:MOST_PORTS]
    serving = {
        _public(row)
        for row in rows["forwards"]
        if row["state"] == "running" and row["wanted"] and _allowed(row, lab.info.outside.address)
    }
    moving = {_public(row) for row in rows["forwards"] if row["state"] in {"starting", "stopped", "ending"}}
    closed = {_public(row) for row in forwards} - serving - moving
    closed |= {(row["node_address"], row["node_port"]) for row in forwards[:30]}
    closed |= {(node.address, port) for node in lab.info.nodes for port in (22, 2375, 2376)}
    closed |= {(lab.info.storage.address, 22), (lab.info.registry.address.partition(":")[0], 5000)}
    closed |= {(lab.info.gateway.private_address, 22), (lab.info.management_address, 22)}
    found = reached(lab, serving | closed)
    for place in sorted(serving - found):
        yield f"8: {place[0]}:{place[1]} serves and cannot be reached"
    for place in sorted(found & closed):
        yield f"8: {place[0]}:{place[1]} can be reached from outside and should not"


def reached(lab: Lab, places: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those that accept a connection from the outside client."""
    said = lab.exec("outside", ["/usr/bin/python3", "-c", _SCRIPT], input=json.dumps(sorted(places)), timeout=60)
    return {(host, port) for host, port in json.loads(said.stdout)}


def _public(row: Row) -> tuple[str, int]:
    return row["public"], row["public_port"]


def _allowed(row: Row, client: str) -> bool:
    """Whether its list of sources, if it has one, has the client."""
    lists = [ipaddress.ip_network(source) for source in row["allowed_sources"]]
    return not lists or any(ipaddress.ip_address(client) in network for network in lists)
