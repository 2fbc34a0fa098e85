"""What a node's engine is configured with: daemon.json merged with what is there, and systemd's drop-in. Pure.

Only what Berth needs is set; everything else that an operator wrote stays as it is.
"""

import json
import shlex
from dataclasses import dataclass
from typing import Any

FILE = "/etc/docker/daemon.json"
TLS = "/etc/docker/tls"
SOCKET = "unix:///var/run/docker.sock"
POOLS = ({"base": "10.210.0.0/16", "size": 28},)  # a bridge for each reservation: the usual pools hold some thirty


class BadConfig(Exception):
    """The file that is there cannot be merged with; it is left as it is."""


@dataclass(frozen=True, slots=True)
class EngineNeeds:
    """What Berth needs: where the engine listens, its certificate's folder, registries that speak plain http."""

    address: str
    port: int
    tls_folder: str = TLS
    plain_registries: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return f"tcp://{self.address}:{self.port}"


def merged(text: str | None, needs: EngineNeeds) -> tuple[str, list[str]]:
    """The new daemon.json, and the names of what changes in it ([]: it is right as it is). None: there is none yet.

    Raises BadConfig when what is there is no JSON object.
    """
    old = _read(text)
    new = dict(old)
    new["hosts"] = _hosts(old.get("hosts"), needs)
    new |= {"tlsverify": True} | {
        key: f"{needs.tls_folder}/{name}.pem"
        for key, name in (("tlscacert", "ca"), ("tlscert", "cert"), ("tlskey", "key"))
    }
    new["userland-proxy"] = False  # it takes connections even if nothing listens inside
    new.setdefault("default-address-pools", list(POOLS))
    new.setdefault("log-driver", "json-file")
    if needs.plain_registries:
        there = old.get("insecure-registries") or []
        new["insecure-registries"] = [*there, *(r for r in needs.plain_registries if r not in there)]
    changed = [key for key in new if key not in old or old[key] != new[key]]
    return f"{json.dumps(new, indent=2)}\n", changed


def _read(text: str | None) -> dict[str, Any]:
    if text is None or not text.strip():
        return {}
    try:
        found = json.loads(text)
    except ValueError as problem:
        raise BadConfig(f"its daemon.json is no JSON: {problem}") from problem
    if not isinstance(found, dict):
        raise BadConfig("its daemon.json is no JSON object")
    return found


def _hosts(there: object, needs: EngineNeeds) -> list[str]:
    """Where it listened before, but for this port: two sockets on one port keep the engine from starting."""
    before = [str(host) for host in there] if isinstance(there, list) else []
    kept = [h for h in before if h == needs.url or not (h.startswith("tcp://") and h.endswith(f":{needs.port}"))]
    local = [] if any(host.startswith(("unix://", "fd://")) for host in kept) else [SOCKET]
    return [*local, *kept, *([] if needs.url in kept else [needs.url])]


def drop_in(command: str) -> str | None:
    """A drop-in for docker.service without the -H of its command line, which conflicts with `hosts`; None: no need.

    `command` is what systemd starts, as one line.
    """
    words = shlex.split(command)
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in {"-H", "--host"}:
            skip = True
        elif not word.startswith(("-H=", "--host=")) and not (word.startswith("-H") and len(word) > 2):
            kept.append(word)
    if kept == words or not words:
        return None
    note = "# Written by Berth: where the engine listens is in daemon.json."
    return f"{note}\n[Service]\nExecStart=\nExecStart={shlex.join(kept)}\n"
