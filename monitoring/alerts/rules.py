"""Every kind of alert: how grave it is, how long it must last to be told, and be away to be over. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

UNSEEN_FOR = timedelta(seconds=30)  # nobody looked for so long: what was pending then begins anew
FLAPS = 3  # told so often within FLAPS_WITHIN, it is one incident until it was away for FLAPPING_CLEARS_AFTER
FLAPS_WITHIN = timedelta(hours=1)
FLAPPING_CLEARS_AFTER = timedelta(minutes=10)

Key = tuple[str, str]
"""Of an incident: its kind and its subject, as ("node_down", "node:3")."""


@dataclass(frozen=True, slots=True)
class Rule:
    """`title` and `over` are the subjects of the messages; {} is the name of what it is about."""

    severity: str
    title: str
    over: str
    opens_after: timedelta
    clears_after: timedelta
    mail: bool = True  # False: somebody else mails it, or a mail about it would not arrive


def _rule(severity: str, title: str, over: str, opens_after_s: int, clears_after_s: int, *, mail: bool = True) -> Rule:
    return Rule(severity, title, over, timedelta(seconds=opens_after_s), timedelta(seconds=clears_after_s), mail)


# A node is `unknown` some 10 s after its engine stopped (two probes), and must be told within 45 s.
RULES: dict[str, Rule] = {
    # machines
    "node_down": _rule("critical", "{} is down", "{} is back", 10, 5),
    "engine_hangs": _rule("critical", "The engine of {} hangs", "The engine of {} answers again", 10, 5),
    "engine_slow": _rule("warning", "The engine of {} is slow", "The engine of {} is quick again", 60, 60),
    "brake": _rule("critical", "Most nodes are silent at once", "Most nodes answer again", 10, 10),
    "disk_short": _rule("warning", "{} is short of disk", "{} has room on its disk again", 60, 60),
    "disk_full": _rule("critical", "The disk of {} is nearly full", "The disk of {} has room again", 0, 60),
    "memory_short": _rule("warning", "{} is short of memory", "{} has free memory again", 120, 60),
    "guard": _rule("warning", "The guard of {} is not as it should be", "The guard of {} is well", 150, 60),
    "certificate_ends": _rule(
        "warning", "The certificate of {} is near its end", "The certificate of {} is good for long again", 0, 10
    ),
    "certificate_expired": _rule("critical", "The certificate of {} has expired", "{} has a good certificate", 0, 10),
    "gateway_away": _rule("critical", "The gateway {} cannot be reached", "The gateway {} is back", 15, 10),
    "gateway_drift": _rule(
        "warning",
        "Somebody changed the rules of the gateway {}",
        "The rules of the gateway {} stay as they should",
        0,
        30,
    ),
    "drift": _rule("warning", "Machines differ from the database", "Machines and database agree again", 0, 0),
    "storage_away": _rule("critical", "The storage server {} is not well", "The storage server {} is well", 20, 15),
    "volumes_degraded": _rule("warning", "Volumes of {} are degraded", "The volumes of {} are well", 30, 30),
    # the portal itself
    "no_worker": _rule("critical", "No worker is running", "A worker is running again", 15, 10),
    "no_beat": _rule("critical", "No beat is running", "A beat is running again", 15, 10),
    "process_silent": _rule("warning", "{} is silent", "{} is no longer missed", 30, 10),
    "no_sweep": _rule("critical", "Nothing is swept", "Reservations are swept again", 15, 10),
    "clock_off": _rule("warning", "The clock of {} is off", "The clock of {} is right again", 0, 60),
    "redis_away": _rule("critical", "Redis gives no answer", "Redis answers again", 10, 10),
    "backlog": _rule("warning", "Reservations wait to be looked at", "No reservation waits any more", 15, 30),
    "start_failures": _rule("warning", "Many reservations fail to start", "Reservations start again", 0, 60),
    "ledger": _rule("warning", "The books have differences", "The books are right again", 0, 0, mail=False),
    "mail_stuck": _rule("warning", "Mails do not go out", "Mails go out again", 30, 30, mail=False),
}


@dataclass(frozen=True, slots=True)
class Threshold:
    """A value that is too low below `opens`, and stays so until it is at `closes` again: it cannot flutter."""

    opens: float
    closes: float

    def too_low(self, value: float, standing: bool) -> bool:
        return value < (self.closes if standing else self.opens)

    def too_high(self, value: float, standing: bool) -> bool:
        """The same for one whose `closes` is below its `opens`."""
        return value > self.closes if standing else value >= self.opens


class Step(Enum):
    """What becomes of an incident at a look."""

    WAIT = "as it was"
    RESTART = "pending from now on"
    OPEN = "told"
    CLOSE = "over"
    FORGET = "it healed before anybody was told"


def step(
    rule: Rule,
    *,
    first_seen_at: datetime,
    last_seen_at: datetime,
    is_open: bool,
    seen: bool,
    now: datetime,
    flapping: bool = False,
) -> Step:
    """What becomes of an incident that is pending or open. `last_seen_at` is of the look before.

    Times well ahead of now are of a clock that was wrong: what was pending begins anew, what is not seen is over.
    """
    ahead = max(first_seen_at, last_seen_at) - now > UNSEEN_FOR
    if seen and is_open:
        return Step.WAIT
    if seen:
        if ahead or now - last_seen_at > UNSEEN_FOR:
            return Step.RESTART
        return Step.OPEN if now - first_seen_at >= rule.opens_after else Step.WAIT
    if not is_open:
        return Step.FORGET
    clears_after = max(rule.clears_after, FLAPPING_CLEARS_AFTER) if flapping else rule.clears_after
    return Step.CLOSE if last_seen_at - now > UNSEEN_FOR or now - last_seen_at >= clears_after else Step.WAIT
