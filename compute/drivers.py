"""The drivers of a node or gateway, made from its row and the settings; one of each is kept by this process."""

import os
import threading

from django.conf import settings

from compute import gateway as gateways
from compute.breaker import Breaker, GuardedEngine
from compute.docker_engine import DockerEngine
from compute.engine import ContainerEngine
from compute.iptables_gateway import DirectGateway, IptablesGateway
from compute.models import Gateway, Node, StorageServer
from compute.shell import Host, SshOptions

_lock = threading.Lock()
_engines: dict[str, ContainerEngine] = {}
_gateways: dict[tuple[str, str], gateways.Gateway] = {}


def ssh_options() -> SshOptions:
    # A folder for each user: a shared connection that root opened cannot be used by the portal's own user.
    control_dir = settings.BERTH_RUN_DIR / f"ssh-{os.getuid()}"
    return SshOptions(settings.BERTH_SSH_KEY, settings.BERTH_SSH_KNOWN_HOSTS, control_dir)


def engine(node: Node) -> ContainerEngine:
    """The node's engine, behind this process's breaker. Raises NoAnswer or EngineRefused when it cannot be set up."""
    with _lock:
        found = _engines.get(node.engine_url)
    if found is None:
        made = GuardedEngine(DockerEngine(node.engine_url, settings.BERTH_TLS_DIR), Breaker(node.engine_url))
        with _lock:
            found = _engines.setdefault(node.engine_url, made)  # one breaker, however many threads come first
    return found


def gateway(row: Gateway) -> gateways.Gateway:
    key = (row.driver, row.ssh)
    with _lock:
        if key not in _gateways:
            direct = row.driver == Gateway.Driver.DIRECT
            _gateways[key] = DirectGateway() if direct else IptablesGateway(Host(row.ssh, ssh_options()))
        return _gateways[key]


def host(node: Node) -> Host | None:
    """The node's machine for work outside its engine; None where Berth has only the engine."""
    return Host(node.ssh, ssh_options()) if node.ssh else None


def storage(server: StorageServer) -> Host:
    """The storage server, for sftp."""
    return Host(f"{server.account}@{server.address}", ssh_options())
