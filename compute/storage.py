"""Probes of the storage servers: does sftp answer there, is there room on its disk; and what its row says after."""

import logging
from datetime import datetime

from compute import drivers
from compute.models import StorageServer
from compute.shell import CommandFailed, NoAnswer

logger = logging.getLogger(__name__)
TIMEOUT_S = 10
FULL_PERCENT = 98


def probe(server: StorageServer, now: datetime) -> bool:
    """Ask the server and write down what it said; returns whether it is well.

    One that is not gets no new volumes; what it has is left alone.
    """
    try:
        answer = drivers.storage(server).sftp([f"df {server.path}"], timeout_s=TIMEOUT_S)
    except (NoAnswer, CommandFailed) as problem:
        return _note(server, f"It does not answer: {problem}")
    percent = percent_used(answer)
    StorageServer.objects.filter(pk=server.pk).update(last_seen_at=now)
    return _note(server, f"Its disk is full to {percent} %." if percent >= FULL_PERCENT else "")


def percent_used(answer: str) -> int:
    """Of what sftp's `df` prints: a heading, then size, used, avail, (root) and the capacity in use."""
    lines = [line.split() for line in answer.splitlines() if line.rstrip().endswith("%")]
    return int(lines[-1][-1].rstrip("%")) if lines else 0


def _note(server: StorageServer, problem: str) -> bool:
    if problem and not server.problem:
        logger.warning("storage server %s is not well: %s", server.name, problem)
    if server.problem and not problem:
        logger.info("storage server %s is well again", server.name)
    StorageServer.objects.filter(pk=server.pk).update(problem=problem[:300])
    return not problem
