"""What is wrong at this moment, read from the rows: a constant number of queries, and no machine is asked.

What is outside the database (Redis, files) is looked at before (`surroundings`), so that the rest can be done in one
transaction. What cannot be seen now is Blind: nothing is concluded from that.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.conf import settings
from django.db import connection, transaction
from redis import Redis
from redis.exceptions import RedisError

from compute import certificates, clocks
from compute.models import Node, Sample
from compute.series import latest_of_nodes
from monitoring import heartbeats
from monitoring.alerts.rules import RULES, Key
from monitoring.models import Heartbeat
from reservations.tasks import last_sweep

logger = logging.getLogger(__name__)
REDIS_TIMEOUT_S = 1
_failing: set[str] = set()  # checks of which the log has it already


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is wrong with one subject. `path` is of the page that shows it; empty: the list of incidents."""

    kind: str
    subject: str
    name: str
    sentence: str
    mend: str = ""
    path: str = ""

    @property
    def key(self) -> Key:
        return self.kind, self.subject


@dataclass(frozen=True, slots=True)
class Blind:
    """This cannot be seen now: an incident about it stays as it is. Without a subject it is so for the whole kind."""

    kind: str
    subject: str = ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is not in the database."""

    redis_problem: str = ""
    swept_at: datetime | None = None
    clocks_off: dict[str, str] = field(default_factory=dict)
    client_certificate_ends: datetime | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What the checks have before them. `standing`: what is pending or open, for which it takes more to be over."""

    now: datetime
    standing: frozenset[Key]
    around: Surroundings
    nodes: list[Node]
    samples: dict[int, Sample]
    processes: heartbeats.Processes

    @property
    def nobody_works(self) -> bool:
        """No worker, no beat or no queue: that is what is told then, and not all that follows from it."""
        living = {row.kind for row in self.processes.alive}
        return bool(self.around.redis_problem) or not {Heartbeat.Kind.WORKER, Heartbeat.Kind.BEAT} <= living

    def stands(self, kind: str, subject: str) -> bool:
        return (kind, subject) in self.standing


Check = Callable[[Look], Iterable[Condition | Blind]]
Checks = dict[Check, tuple[str, ...]]  # each with the kinds that it tells


@dataclass(frozen=True, slots=True)
class Seen:
    """All that is wrong, and what could not be seen."""

    conditions: dict[Key, Condition]
    blind: frozenset[Key]

    def cannot_tell(self, kind: str, subject: str) -> bool:
        return (kind, subject) in self.blind or (kind, "") in self.blind


def read(now: datetime, standing: Iterable[Key], around: Surroundings) -> Seen:
    """Everything that is wrong by the rows. A check that fails is blind for its kinds, and the others go on."""
    from monitoring.alerts import of_machines, of_portal  # they use the types above

    nodes = list(Node.objects.present())
    look = Look(now, frozenset(standing), around, nodes, latest_of_nodes(now), heartbeats.processes(now))
    conditions: dict[Key, Condition] = {}
    blind: set[Key] = set()
    for check, kinds in (of_machines.CHECKS | of_portal.CHECKS).items():
        for found in _ask(check, kinds, look):
            if isinstance(found, Blind):
                blind.add((found.kind, found.subject))
            else:
                assert found.kind in RULES, found.kind  # noqa: S101 - a mistake in a check
                conditions[found.key] = found
    return Seen(conditions, frozenset(blind))


def _ask(check: Check, kinds: Sequence[str], look: Look) -> Iterable[Condition | Blind]:
    """What it finds. Where it fails the log has it once, and the caller's transaction can go on."""
    try:
        with transaction.atomic():
            found = list(check(look))
    except Exception:
        if connection.needs_rollback or not connection.is_usable():
            raise  # it is the database that fails
        if check.__name__ not in _failing:
            logger.exception("the check of %s fails; nothing is concluded about it", ", ".join(kinds))
        _failing.add(check.__name__)
        return [Blind(kind) for kind in kinds]
    _failing.discard(check.__name__)
    return found


def surroundings() -> Surroundings:
    """Asks Redis, and reads the portal's own certificate. Takes a second or two while Redis hangs."""
    ends = certificates.client_expiry(settings.BERTH_TLS_DIR)
    if problem := _redis_problem():
        return Surroundings(problem, client_certificate_ends=ends)
    return Surroundings("", last_sweep(), clocks.others_off(), ends)


def _redis_problem() -> str:
    try:
        with Redis.from_url(
            settings.REDIS_URL, socket_connect_timeout=REDIS_TIMEOUT_S, socket_timeout=REDIS_TIMEOUT_S
        ) as client:
            client.ping()
    except (RedisError, OSError) as problem:
        return type(problem).__name__  # its message may hold addresses and accounts
    return ""
