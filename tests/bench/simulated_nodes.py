"""Many Docker Engines in one process, on a unix socket each: as much of the API as a round of readings asks for.

They answer at once, as engines do from version 25 on; the texts are those of a real 20.10 with cgroup v1, the longest.
 `python -m tests.bench.simulated_nodes FOLDER NODES CONTAINERS` runs until its input ends.
"""

import asyncio
import hashlib
import json
import sys
import time
from pathlib import Path

HEAD = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\nDocker-Experimental: false\r\n"
HEAD += "Ostype: linux\r\nServer: Docker/25.0.3 (linux)\r\nDate: Sat, 21 Nov 2026 07:47:32 GMT\r\nContent-Length: "
_MEMORY = [
    *("active_anon", "active_file", "cache", "dirty", "hierarchical_memory_limit", "hierarchical_memsw_limit"),
    *("inactive_anon", "inactive_file", "mapped_file", "pgfault", "pgmajfault", "pgpgin", "pgpgout", "rss", "rss_huge"),
]
_MEMORY += [f"total_{name}" for name in _MEMORY if not name.startswith("hierarchical")]
_BLOCK = ["io_service_bytes", "io_serviced", "io_queue", "io_service_time", "io_wait_time", "io_merged", "io_time"]


def engine_id(node: int, number: int) -> str:
    return hashlib.sha256(f"{node}-{number}".encode()).hexdigest()


def name(node: int, number: int) -> str:
    return f"berth-{node * 1000 + number}-1-main"


def row(node: int, number: int) -> dict[str, object]:
    """Of the list of containers."""
    network: dict[str, object] = dict.fromkeys(("IPAMConfig", "Links", "Aliases", "DriverOpts"))
    network |= {"NetworkID": engine_id(number, 1), "EndpointID": engine_id(number, 2), "Gateway": "10.210.0.1"}
    network |= {"IPAddress": "10.210.0.2", "IPPrefixLen": 28, "MacAddress": "02:42:0a:d2:00:02"}
    labels = {"berth.generation": "1", "berth.workspace": "1", "berth.expires_at": "2999-05-04T11:00:00+00:00"}
    return {
        "Id": engine_id(node, number),
        "Names": [f"/{name(node, number)}"],
        "Image": "registry:5000/library/nginx@sha256:" + "a" * 64,
        "ImageID": "sha256:" + "a" * 64,
        "Command": "/docker-entrypoint.sh nginx -g 'daemon off;'",
        "Created": 1_795_247_251,
        "Ports": [{"IP": "10.0.0.1", "PrivatePort": 80, "PublicPort": 20_000 + number, "Type": "tcp"}],
        "Labels": {"berth.reservation": str(node * 1000 + number), **labels},
        "State": "running",
        "Status": "Up 3 hours",
        "HostConfig": {"NetworkMode": name(node, number)},
        "NetworkSettings": {"Networks": {name(node, number): network}},
        "Mounts": [],
    }


def inspect() -> dict[str, object]:
    state = {"Status": "running", "Running": True, "ExitCode": 0, "OOMKilled": False, "Pid": 4711, "Error": ""}
    state |= {"StartedAt": "2026-11-21T04:47:31.123456789Z", "FinishedAt": "0001-01-01T00:00:00Z"}
    return {"State": state, "HostConfig": {"Memory": 512 * 2**20}, "Config": {"Env": ["X=" + "x" * 60] * 50}}


def stats(seconds: float) -> dict[str, object]:
    used = {"percpu_usage": [int(seconds * 1e8)] * 4, "usage_in_kernelmode": 0, "usage_in_usermode": 10_000_000}
    throttled = {"periods": 0, "throttled_periods": 0, "throttled_time": 0}
    network = dict.fromkeys(("rx_packets", "rx_errors", "rx_dropped", "tx_packets", "tx_errors", "tx_dropped"), 0)
    return {
        "read": "2026-11-21T07:47:32.79677451Z",
        "preread": "0001-01-01T00:00:00Z",
        "pids_stats": {"current": 2},
        "blkio_stats": {f"{kind}_recursive": [] for kind in _BLOCK},
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": {
            "cpu_usage": {"total_usage": int(seconds * 1e8), **used},
            "system_cpu_usage": 75_859_640_000_000,
            "online_cpus": 4,
            "throttling_data": throttled,
        },
        "precpu_stats": {"cpu_usage": {"total_usage": 0}, "throttling_data": throttled},
        "memory_stats": {
            "usage": 52_674_688,
            "max_usage": 54_091_904,
            "stats": dict.fromkeys(_MEMORY, 331_776),
            "limit": 536_870_912,
        },
        "name": "/berth-1000-1-main",
        "id": "a" * 64,
        "networks": {"eth0": {"rx_bytes": int(seconds * 1000), "tx_bytes": int(seconds * 500), **network}},
    }


class Engine(asyncio.Protocol):
    """One connection to one engine."""

    now = b""  # the statistics that all give at the moment

    def __init__(self, listing: bytes) -> None:
        self.listing = listing
        self.rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        *asked, self.rest = (self.rest + data).split(b"\r\n\r\n")
        for request in asked:
            path = request.split(b" ", 2)[1]
            if b"/stats" in path:
                self.transport.write(Engine.now)
            elif b"/containers/json" in path:
                self.transport.write(self.listing)
            else:
                self.transport.write(INSPECT)


def answer(body: object) -> bytes:
    text = json.dumps(body, separators=(",", ":")).encode()
    return f"{HEAD}{len(text)}\r\n\r\n".encode() + text


INSPECT = answer(inspect())


async def serve(folder: Path, nodes: int, containers: int) -> None:
    loop = asyncio.get_running_loop()
    for node in range(nodes):
        listing = answer([row(node, number) for number in range(containers)])
        await loop.create_unix_server(lambda text=listing: Engine(text), str(folder / f"{node}.sock"), backlog=64)  # type: ignore[misc]
    over = loop.create_future()
    loop.add_reader(sys.stdin, over.cancel)
    Engine.now = answer(stats(time.time() % 1e6))
    print("ready", flush=True)
    while not over.done():
        Engine.now = answer(stats(time.time() % 1e6))
        await asyncio.wait([over], timeout=0.25)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
