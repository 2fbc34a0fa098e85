"""Docker Engine of a node: its configuration. What keeps containers away from the machines, Berth puts there."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

from . import certificates
from .machine import ENVIRONMENT, START_DAEMON, Machine
from .machines import ENGINE_PORT, REGISTRY, REGISTRY_PORT, MachineSpec, Plan
from .process import run
from .state import Store, write_file

SOCKET = "/run/docker.sock"
#: In place of `systemctl restart docker`, which a node of the lab lacks: for who logs in to it by SSH.
RESTART = "/etc/lab/restart-engine"
_RESTART = """\
#!/bin/sh
# Ends the engine of this node and starts it anew, as the lab does.
set -eu
if read -r pid start <"/run/lab/dockerd.pid" && kill "$pid"; then
    for _ in $(seq 200); do kill -0 "$pid" || break; sleep 0.1; done
    kill -KILL "$pid" || true
fi 2>/dev/null
rm -f /run/docker.pid
exec env -i {environment} setsid --fork /bin/sh -c {start} dockerd dockerd </dev/null >>/run/lab/dockerd.log 2>&1
"""


def make_certificates(store: Store, plan: Plan, nodes: tuple[MachineSpec, ...]) -> None:
    """The authority, the portal's client certificate and one server certificate for each node's present address."""
    authority = store.secrets / "authority"
    certificates.make_authority(authority)
    if not (store.portal / "tls/ca.pem").exists():
        certificates.issue(authority, store.portal / "tls", name="portal", purpose="clientAuth")
    for spec in nodes:
        directory = store.secrets / f"tls-{plan.private(spec)}"
        if not (directory / "ca.pem").exists():
            certificates.issue(authority, directory, name=spec.name, purpose="serverAuth", address=plan.private(spec))


def write_config(etc: Path, spec: MachineSpec, store: Store, plan: Plan) -> None:
    """Put into a node's own /etc what its engine needs."""
    tls = etc / "docker/tls"
    tls.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in ("ca.pem", "cert.pem", "key.pem"):
        shutil.copy(store.secrets / f"tls-{plan.private(spec)}" / name, tls / name)
    config = {
        "hosts": [f"unix://{SOCKET}", f"tcp://{plan.private(spec)}:{ENGINE_PORT}"],
        "tlsverify": True,
        "tlscacert": "/etc/docker/tls/ca.pem",
        "tlscert": "/etc/docker/tls/cert.pem",
        "tlskey": "/etc/docker/tls/key.pem",
        "data-root": "/var/lib/docker",
        "storage-driver": "overlay2",
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        "cgroup-parent": f"/{plan.cgroup(spec)}",
        "userland-proxy": False,
        "live-restore": False,
        "iptables": True,
        "ip6tables": False,
        "insecure-registries": [f"{plan.private(REGISTRY)}:{REGISTRY_PORT}"],
        "default-address-pools": [{"base": "10.210.0.0/16", "size": 28}],
        "log-driver": "json-file",
        "log-opts": {"max-size": "10m", "max-file": "2"},
        "max-concurrent-downloads": 4,
        "shutdown-timeout": 5,
    }
    write_file(etc / "docker/daemon.json", json.dumps(config, indent=2) + "\n")
    environment = shlex.join(f"{name}={value}" for name, value in ENVIRONMENT.items())
    restart = _RESTART.format(environment=environment, start=shlex.quote(START_DAEMON))
    write_file(etc / RESTART.removeprefix("/etc/"), restart, mode=0o755)


def clean_before_start(machine: Machine) -> None:
    """Remove the pid file of a killed engine, which keeps the next one from starting if that pid is in use again."""
    machine.run(["rm", "-f", "/run/docker.pid"])


def check_storage(directory: Path) -> str | None:
    """A sentence why the engine's overlay2 cannot live in this directory, or None."""
    kind = run(["stat", "-f", "-c", "%T", str(directory)]).stdout.strip()
    if kind in {"overlayfs", "nfs", "fuseblk", "fuse"}:
        return f"{directory} is on {kind}, where Docker's overlay2 cannot work: give --state-dir on ext4 or xfs"
    return None
