"""Looks for drift: each machine compared with the rows by a task of its own, so that a silent one holds up no other.

A look is asked for by a person or the timetable; there is one at a time. Its row keeps what was found until the next
one. A machine that gives no answer is *not checked*, which is never the same as fine.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from django.db import IntegrityError, connection, transaction
from django.db.models import F

from accounts import audit
from compute.engine import EngineRefused, NoAnswer
from compute.models import Gateway, Node, StorageServer
from compute.shell import CommandFailed
from monitoring.models import DriftLook
from reservations import drift, drift_mending
from reservations.drift import Difference, Kind
from reservations.drift_mending import NotNow

logger = logging.getLogger(__name__)
PORTAL = "portal"
SETTLE_S = 3.0
GIVEN_UP_AFTER = timedelta(minutes=10)
KEEP = timedelta(days=7)
Send = Callable[[int, str], None]


class NoQueue(Exception):
    """Nobody can be told to look: the queue gives no answer."""


class NoSuchMachine(LookupError):
    """It was removed, or never was."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one difference that somebody asked to mend."""

    difference: Difference
    done: bool
    sentence: str


def ask(*, by: object, now: datetime, send: Send) -> DriftLook:
    """Begin a look, or join the one that is under way; `send` tells a worker to look at one machine.

    Raises NoQueue, and has begun none then.
    """
    _give_up_old(now)
    machines = [PORTAL, *_machines()]
    try:
        with transaction.atomic():
            look = DriftLook.objects.create(asked_at=now, asked_by=str(by)[:80], started_at=now, machines=len(machines))
    except IntegrityError:
        return DriftLook.objects.filter(finished_at=None).get()
    DriftLook.objects.filter(finished_at__lt=now - KEEP).delete()
    try:
        for machine in machines:
            send(look.pk, machine)
    except NoQueue:
        look.delete()
        raise
    return look


def _machines() -> Iterator[str]:
    yield from (f"gateway:{pk}" for pk in Gateway.objects.values_list("pk", flat=True))
    yield from (f"storage:{pk}" for pk in StorageServer.objects.values_list("pk", flat=True))
    yield from (f"node:{pk}" for pk in Node.objects.present().values_list("pk", flat=True))


def _give_up_old(now: datetime) -> None:
    """A look whose tasks were lost ends with what it has, and says so."""
    for look in DriftLook.objects.filter(finished_at=None, asked_at__lt=now - GIVEN_UP_AFTER):
        many = look.machines - look.looked_at
        sentence = f"{many} of {look.machines} machines were not looked at: no worker came to it in time"
        missing = Difference(Kind.NOT_CHECKED, PORTAL, "portal", "look", sentence, "See that a worker is running.")
        _write(look.pk, [missing])
        DriftLook.objects.filter(pk=look.pk, finished_at=None).update(finished_at=now)


def look_at(look_id: int, machine: str, clock: Callable[[], datetime]) -> None:
    """Compare one machine for this look, and write down what was found; the last one ends the look.

    What differs is looked at twice: what is just being started or ended differs for a moment.
    """
    if not DriftLook.objects.filter(pk=look_id, finished_at=None).exists():
        return
    try:
        found = examine(machine, clock())
        if any(difference.kind != Kind.NOT_CHECKED for difference in found):
            time.sleep(SETTLE_S)
            again = examine(machine, clock())
            found = [difference for difference in again if difference.key in {d.key for d in found}]
    except NoSuchMachine:  # it was removed meanwhile
        found = []
    except Exception as problem:  # a fault of ours: the look still ends, and does not say that all is fine
        logger.exception("drift: looking at %s failed", machine)
        sentence = f"could not be checked: {type(problem).__name__}"
        found = [Difference(Kind.NOT_CHECKED, machine, machine, "look", sentence, "See the log of the workers.")]
    for difference in found:
        drift_mending.note(difference, clock())
    _write(look_id, found)
    rows = DriftLook.objects.filter(pk=look_id, finished_at=None)
    rows.update(looked_at=F("looked_at") + 1)
    rows.filter(looked_at__gte=F("machines")).update(finished_at=clock())


def _write(look_id: int, found: Sequence[Difference]) -> None:
    with connection.cursor() as cursor:  # added in the database, since many machines answer at once
        texts = json.dumps([as_json(difference) for difference in found])
        cursor.execute("UPDATE monitoring_driftlook SET found = found || %s::jsonb WHERE id = %s", [texts, look_id])


def examine(machine: str, now: datetime) -> list[Difference]:
    """What differs on this machine; one that gives no answer has the one difference that it was not checked.

    Raises NoSuchMachine.
    """
    if machine == PORTAL:
        return list(drift.of_plan(now))
    row = machine_of(machine)
    if isinstance(row, Node) and not row.answers:
        return [_not_checked(machine, row.name, row.health_reason or "it gives no answer")]
    try:
        if isinstance(row, Node):
            return list(drift.of_node(row))
        return list(drift.of_gateway(row) if isinstance(row, Gateway) else drift.of_storage(row))
    except (NoAnswer, EngineRefused, CommandFailed) as problem:
        return [_not_checked(machine, row.name, str(problem))]


def machine_of(machine: str) -> Node | Gateway | StorageServer:
    """The row behind `node:3`. Raises NoSuchMachine."""
    kind, _, number = machine.partition(":")
    models: dict[str, type[Node | Gateway | StorageServer]] = {
        "node": Node,
        "gateway": Gateway,
        "storage": StorageServer,
    }
    if kind not in models or not number.isdecimal() or len(number) > 18:
        raise NoSuchMachine(machine)
    row = models[kind]._default_manager.filter(pk=int(number)).first()
    if row is None or (isinstance(row, Node) and row.state == Node.State.REMOVED):
        raise NoSuchMachine(machine)
    return row


def _not_checked(machine: str, name: str, problem: str) -> Difference:
    sentence = f"could not be checked: {problem}"[:300]
    return Difference(Kind.NOT_CHECKED, machine, name, "look", sentence, "See that it answers, then look again.")


# ---- mending ------------------------------------------------------------------------------------------------


def mend(asked: Iterable[Difference], *, by: object, clock: Callable[[], datetime]) -> list[Outcome]:
    """Look at each again, and mend what is still there and would be mended as was shown; one audit row for each.

    The rules of a gateway are applied as one: the first of them mends all.
    """
    by_machine: dict[str, list[Difference]] = {}
    for difference in asked:
        at = PORTAL if difference.kind == Kind.PLAN else difference.machine
        by_machine.setdefault(at, []).append(difference)
    return [outcome for machine, some in by_machine.items() for outcome in _mend_on(machine, some, by, clock)]


def _mend_on(machine: str, asked: Sequence[Difference], by: object, clock: Callable[[], datetime]) -> Iterator[Outcome]:
    try:
        there = {difference.key: difference for difference in examine(machine, clock())}
    except NoSuchMachine:
        there = {}
    silent = next((found for found in there.values() if found.kind == Kind.NOT_CHECKED), None)
    applied = ""
    for difference in asked:
        found = there.get(difference.key)
        is_rule = difference.kind in {Kind.RULE_MISSING, Kind.RULE_STRANGE}
        if silent:
            yield Outcome(difference, False, f"{silent.where} {silent.sentence}. Nothing was done.")
        elif found is None:
            yield Outcome(difference, False, f"{difference.subject} on {difference.where}: it has healed meanwhile.")
            forget(difference)
        elif found.would != difference.would:
            yield Outcome(difference, False, f"{found.subject} on {found.where} is another thing by now: look again.")
        elif is_rule and applied:
            yield Outcome(difference, True, applied)
            forget(difference)
        else:
            outcome = _mend_one(found, by, clock)
            applied = outcome.sentence if is_rule and outcome.done else applied
            yield outcome


def _mend_one(found: Difference, by: object, clock: Callable[[], datetime]) -> Outcome:
    try:
        said, done = drift_mending.mend(found, clock()), True
    except NotNow as problem:
        return Outcome(found, False, str(problem))
    except (NoAnswer, EngineRefused, CommandFailed) as problem:
        said, done = f"{found.where}: {found.subject} could not be mended: {problem}", False
    with transaction.atomic(durable=True):
        audit.record(
            by=by,
            action="drift.mend",
            target=found.machine,
            name=found.where,
            kind=found.kind,
            subject=found.subject,
            would=found.would,
            said=said,
            done=done,
        )
    if done:
        forget(found)
    return Outcome(found, done, said)


def forget(difference: Difference) -> None:
    """Take it out of the last look: it is mended or has healed."""
    with transaction.atomic():
        look = DriftLook.objects.select_for_update(no_key=True).order_by("-asked_at").first()
        if look:
            look.found = [row for row in look.found if from_json(row).key != difference.key]
            look.save(update_fields=["found"])


def found_by(look: DriftLook | None) -> list[Difference]:
    """What it found so far, what could not be checked last."""
    rows = [from_json(row) for row in look.found] if look else []
    return sorted(rows, key=lambda row: (row.kind == Kind.NOT_CHECKED, row.where, row.kind, row.subject))


def as_json(difference: Difference) -> dict[str, object]:
    return asdict(difference)


def from_json(row: dict[str, object]) -> Difference:
    found = Difference(**row)  # type: ignore[arg-type]  # it was written by `as_json`
    return replace(found, kind=Kind(found.kind))
