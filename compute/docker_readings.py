"""Reads what the Docker Engine API says of containers: its list, an inspect, its statistics. Pure.

An answer that cannot be understood raises NotUnderstood; a line of the list that cannot is left out, and the list is
not complete then. What is told fits into the database's columns: one broken engine spoils no other's readings.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from compute.readings import ContainerSeen, Details, Listing, Usage
from compute.spec import LABEL_RESERVATION

STATES = frozenset({"created", "running", "paused", "restarting", "removing", "exited", "dead"})
_HEALTH = {"healthy": "healthy", "unhealthy": "unhealthy", "health: starting": "starting", "starting": "starting"}
_WHOLE = re.compile(r"\A-?[0-9]{1,19}\Z")
_IN_BRACKETS = re.compile(r"\(([^)]*)\)")
_ID, _NAME = re.compile(r"\A[A-Za-z0-9_.-]{1,64}\Z"), re.compile(r"\A[A-Za-z0-9_.-]{1,120}\Z")
_MIB = 2**20


class NotUnderstood(Exception):
    """The engine answered something else than its API says."""


@contextmanager
def _understood(body: bytes) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise NotUnderstood(f"{problem!r} in {body[:80]!r}") from problem


def version(server: str) -> str:
    """Of the answer's header Server: "Docker/20.10.24 (linux)"."""
    name, _, rest = server.partition("/")
    return rest.split(" ")[0][:60] if name == "Docker" else ""


def listing(body: bytes, server: str) -> Listing:
    """GET /containers/json?all=1."""
    with _understood(body):
        rows = _json(body, list)
    seen = [_seen(row) for row in rows]
    known = tuple(one for one in seen if one)
    return Listing(version(server), known, complete=len(known) == len(seen))


def _seen(row: Any) -> ContainerSeen | None:
    """State and words as moby writes them (container/state.go, State.String)."""
    try:
        engine_id, name, state, words = row["Id"], row["Names"][0].lstrip("/"), row["State"], row["Status"]
        labels = row["Labels"] or {}
        if not (_ID.match(engine_id) and _NAME.match(name)) or state not in STATES:
            return None
        said = _IN_BRACKETS.search(words)
        inside = said.group(1) if said else ""
        return ContainerSeen(
            engine_id=engine_id,
            name=name,
            state=state,
            health=_HEALTH.get(inside, "") if state == "running" else "",
            exit_code=_exit_code(int(inside)) if state == "exited" and _WHOLE.match(inside) else None,
            lately="second" in words,
            reservation_id=_number(labels.get(LABEL_RESERVATION)),
        )
    except (KeyError, IndexError, TypeError, AttributeError):
        return None


def details(body: bytes) -> Details:
    """GET /containers/{id}/json."""
    with _understood(body):
        raw = _json(body, dict)
        state = raw["State"]
        word = state["Status"]
        if word not in STATES:
            raise ValueError(f"a container cannot be {word!r}")
        ended = word in {"exited", "dead"}
        memory = (raw.get("HostConfig") or {}).get("Memory") or 0
        return Details(
            state=word,
            health=_HEALTH.get((state.get("Health") or {}).get("Status", ""), "") if word == "running" else "",
            exit_code=_exit_code(int(state["ExitCode"])) if ended else None,
            out_of_memory=bool(state.get("OOMKilled")),
            started_at=_time(state.get("StartedAt")),
            finished_at=_time(state.get("FinishedAt")),
            memory_limit_mib=_counter(memory) // _MIB or None,
        )


def usage(body: bytes) -> Usage | None:
    """GET /containers/{id}/stats?stream=false&one-shot=true; None when it does not run.

    Memory as `docker stats` shows it, without what could be given back at once: docker/cli,
    cli/command/container/stats_helpers.go, calculateMemUsageUnixNoCache.
    """
    with _understood(body):
        raw = _json(body, dict)
        memory = raw.get("memory_stats") or {}
        if str(raw.get("read", "")).startswith("0001") or "usage" not in memory:
            return None
        cpu = ((raw.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage")
        networks = (raw.get("networks") or {}).values()
        return Usage(
            cpu_s=_counter(cpu) / 1e9 if cpu is not None else None,
            memory_mib=_memory(memory) / _MIB,
            received=_counter(sum(network["rx_bytes"] for network in networks)),
            sent=_counter(sum(network["tx_bytes"] for network in networks)),
        )


def _memory(memory: dict[str, Any]) -> int:
    used = _counter(memory["usage"])
    stats = memory.get("stats") or {}
    # cgroup v1 counts over all below it, v2 has the one name.
    idle = stats["total_inactive_file"] if "total_inactive_file" in stats else stats.get("inactive_file", 0)
    return used - idle if idle < used else used


def _json(body: bytes, kind: type) -> Any:
    found = json.loads(body, parse_constant=_no_number)
    if not isinstance(found, kind):
        raise TypeError(f"an answer that is no {kind.__name__}")
    return found


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")


def _counter(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < 2**62:
        raise ValueError(f"a counter cannot be {value!r}")
    return value


def _exit_code(value: int) -> int | None:
    return value if -(2**31) <= value < 2**31 else None


def _time(text: Any) -> datetime | None:
    """RFC 3339; the year 1 is the engine's "never"."""
    if not text or str(text).startswith("0001-"):
        return None
    return datetime.fromisoformat(text)


def _number(text: Any) -> int | None:
    """A reservation's id; one that is none may be on a container that somebody else labelled."""
    return int(text) if text and str(text).isdecimal() and len(str(text)) < 19 else None
