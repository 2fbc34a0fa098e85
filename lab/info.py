"""lab.json: what a lab tells those who use it. The field names are a contract; see the dataclasses."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .machines import (
    ENGINE_PORT,
    GATEWAY,
    HOST_NUMBER,
    NODES,
    OUTSIDE,
    REGISTRY,
    REGISTRY_PORT,
    STORAGE,
    UPSTREAM,
    Plan,
)
from .ssh import STORAGE_PATH, STORAGE_USER
from .state import Store


@dataclass(frozen=True)
class GatewayInfo:
    name: str
    public_address: str
    private_address: str
    ssh: str


@dataclass(frozen=True)
class NodeInfo:
    name: str
    address: str
    engine_url: str
    ssh: str
    ram_mib: int
    cores: int


@dataclass(frozen=True)
class StorageInfo:
    name: str
    address: str
    ssh: str
    path: str


@dataclass(frozen=True)
class Address:
    address: str


@dataclass(frozen=True)
class Keys:
    """Absolute paths. `tls_dir` has ca.pem, cert.pem and key.pem of the engines' client."""

    ssh_key: str
    known_hosts: str
    tls_dir: str


@dataclass(frozen=True)
class LabInfo:
    name: str
    slot: int
    public_address: str
    private_subnet: str
    public_subnet: str
    management_address: str
    gateway: GatewayInfo
    nodes: tuple[NodeInfo, ...]
    storage: StorageInfo
    registry: Address
    upstream: Address
    outside: Address
    keys: Keys

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> LabInfo:
        raw: dict[str, Any] = json.loads(text)
        raw |= {
            "gateway": GatewayInfo(**raw["gateway"]),
            "nodes": tuple(NodeInfo(**node) for node in raw["nodes"]),
            "storage": StorageInfo(**raw["storage"]),
            "registry": Address(**raw["registry"]),
            "upstream": Address(**raw["upstream"]),
            "outside": Address(**raw["outside"]),
            "keys": Keys(**raw["keys"]),
        }
        return cls(**raw)


def describe(store: Store, plan: Plan, upstream: str | None) -> LabInfo:
    """What lab.json shall say. `upstream` is the outside registry given by the person, if any."""
    gateway_private = plan.private(GATEWAY)
    nodes = tuple(
        NodeInfo(
            name=spec.name,
            address=plan.private(spec),
            engine_url=f"tcp://{plan.private(spec)}:{ENGINE_PORT}",
            ssh=f"root@{plan.private(spec)}",
            ram_mib=spec.ram_mib,
            cores=spec.cores,
        )
        for spec in NODES
    )
    return LabInfo(
        name=plan.name,
        slot=plan.slot,
        public_address=plan.public(GATEWAY),
        private_subnet=str(plan.subnet("private")),
        public_subnet=str(plan.subnet("public")),
        management_address=plan.address("private", HOST_NUMBER),
        gateway=GatewayInfo("gateway", plan.public(GATEWAY), gateway_private, f"root@{gateway_private}"),
        nodes=nodes,
        storage=StorageInfo("storage", plan.private(STORAGE), f"{STORAGE_USER}@{plan.private(STORAGE)}", STORAGE_PATH),
        registry=Address(f"{plan.private(REGISTRY)}:{REGISTRY_PORT}"),
        upstream=Address(upstream or f"{plan.public(UPSTREAM)}:{REGISTRY_PORT}"),
        outside=Address(plan.public(OUTSIDE)),
        keys=Keys(
            ssh_key=str(store.portal / "ssh_key"),
            known_hosts=str(store.portal / "known_hosts"),
            tls_dir=str(store.portal / "tls"),
        ),
    )


def lab_json(store: Store) -> Path:
    return store.directory / "lab.json"
