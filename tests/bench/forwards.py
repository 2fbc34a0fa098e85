"""A resync of a gateway with 10,000 forwards, of which 1,000 let in three sources each: real iptables, in a namespace.

The rows are in a scratch database. No SSH is between, so that a gateway's own network adds its round trip; the kernel's
work and Berth's are all there. A second resync, which finds everything as it should be, must change nothing.
"""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

from django.utils import timezone

from compute.shell import Host, SshOptions
from tests.bench.ground import BenchError, Ground
from tests.bench.place import scratch_database
from tests.bench.table import Outcome, Row

FORWARDS, RESTRICTED = 10_000, 1000
SOURCES = ["203.0.113.0/24", "198.51.100.7/32", "192.0.2.0/25"]
NAMESPACE = "berth-bench"
FIRST_PORT = 20_000
BOUND_S = 5.0  # half of what a command of a gateway may take


@dataclass(frozen=True)
class Inside(Host):
    """This machine, with the network of the namespace."""

    def run(self, argv: Sequence[str], *, stdin: str = "", timeout_s: float = 20) -> str:
        return super().run(["ip", "netns", "exec", NAMESPACE, *argv], stdin=stdin, timeout_s=timeout_s)


def measure(ground: Ground) -> Outcome:
    from compute import drivers, forwarding
    from compute.gateway import render
    from compute.iptables_gateway import IptablesGateway, as_restore
    from compute.models import Forward

    with scratch_database(), _namespace():
        gateway = _fill()
        driver = IptablesGateway(Inside("", SshOptions(None, None, Path())))
        with patch.object(drivers, "gateway", lambda row: driver):
            specs = [row.spec for row in Forward.objects.select_related("gateway", "node")]
            rendering, rules = _timed(lambda: render(specs, gateway.private_subnet))
            whole, _ = _timed(lambda: forwarding.sync(gateway))
            gateway.refresh_from_db()
            changed, _ = _timed(lambda: _change_one(gateway))
            again, drift = _timed(lambda: forwarding.check(gateway, timezone.now()))
            left = forwarding.compare(gateway)
    if drift or left:
        raise AssertionError(f"after a resync the gateway differs: {drift}, {left.missing[:3]}, {left.unwanted[:3]}")
    what = f"{FORWARDS:,} forwards, {RESTRICTED:,} of them for {len(SOURCES)} sources each"
    size = len(as_restore(rules)) // 1024
    return Outcome(
        "forwards",
        [
            Row(f"a resync of a gateway with {what}", whole, "s", BOUND_S),
            Row("rendering its rules", rendering, "s"),
            Row("one forward more", changed, "s", BOUND_S),
            Row("a check that finds all as it should be", again, "s", BOUND_S, f"{drift} rules differ"),
        ],
        [f"{len(rules.nat) + len(rules.filter):,} rules, {size} KiB for iptables-restore"],
    )


def _timed(call: Any) -> tuple[float, Any]:
    begun = time.perf_counter()
    found = call()
    return time.perf_counter() - begun, found


def _change_one(gateway: Any) -> None:
    """What a booking does: its own forward is wanted from now on."""
    from compute import forwarding
    from compute.models import Forward

    one = Forward.objects.order_by("-public_port")[0]
    Forward.objects.filter(pk=one.pk).update(applied=False, allowed_sources=SOURCES[:1])
    forwarding.sync(gateway, only_for=[one.pk])


def _fill() -> Any:
    from compute.capacity import window
    from compute.models import Forward, Gateway, Node

    now = timezone.now()
    gateway = Gateway.objects.create(
        name="gateway",
        driver=Gateway.Driver.IPTABLES,
        public_address="198.18.255.1",
        private_subnet="10.99.0.0/16",
        port_first=FIRST_PORT,
        port_last=FIRST_PORT + FORWARDS,
    )
    nodes = Node.objects.bulk_create(
        Node(name=f"node{n}", gateway=gateway, address=f"10.99.{n}.1", engine_url="tcp://x:2376", ram_mib=1, cores=1)
        for n in range(100)
    )
    Forward.objects.bulk_create(
        Forward(
            gateway=gateway,
            public_port=FIRST_PORT + number,
            node=nodes[number % len(nodes)],
            node_port=FIRST_PORT + number,
            container_port=80,
            name="web",
            kind="http",
            during=window(now, now + timedelta(days=1)),
            wanted=True,
            allowed_sources=SOURCES if number < RESTRICTED else [],
        )
        for number in range(FORWARDS)
    )
    return gateway


@contextmanager
def _namespace() -> Iterator[None]:
    """A network of its own, with nothing in it but the kernel's tables."""
    subprocess.run(["ip", "netns", "delete", NAMESPACE], capture_output=True, check=False)  # what a killed run left
    made = subprocess.run(["ip", "netns", "add", NAMESPACE], capture_output=True, text=True, check=False)
    if made.returncode:
        raise BenchError(f"no network namespace could be made: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["ip", "netns", "delete", NAMESPACE], capture_output=True, check=False)
