"""What is wrong with the machines: nodes, gateways, storage."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta

from django.conf import settings
from django.db.models import Count
from django.urls import NoReverseMatch, reverse

from compute import health
from compute.models import Gateway, Node, StorageServer
from monitoring.alerts.conditions import Blind, Checks, Condition, Look
from monitoring.alerts.rules import Threshold
from monitoring.drift import PORTAL, from_json
from monitoring.models import DriftLook
from reservations.drift import Difference, Kind
from reservations.models import Container

SLOW = Threshold(opens=2.0, closes=1.0)  # seconds; a living engine answers within milliseconds
DISK_PLUS_PERCENT, MEMORY_PLUS_PERCENT = 5, 3  # that must be free beyond the limit for it to be over
DRIFT_GRACE, DRIFT_OLD, DRIFT_LOOKS = timedelta(minutes=1), timedelta(days=1), 10
DISKS = (("volumes", "/var/lib/berth"), ("images", "Docker's own folder"))
RENEW = "Issue a new one from your authority (docs/operators.md, Keys and certificates)."


def node_path(name: str) -> str:
    try:
        return reverse("monitor:node", args=[name])
    except NoReverseMatch:  # it has a name that no address has
        return reverse("monitor:index")


def _subject(node: Node) -> str:
    return f"node:{node.pk}"


# ---- nodes ------------------------------------------------------------------------------------------------


def nodes_down(look: Look) -> Iterator[Condition | Blind]:
    """One outage is one incident: what it was at first sight, down or hanging, it stays to its end."""
    for node in look.nodes:
        if node.health not in {Node.Health.UNKNOWN, Node.Health.LOST}:
            continue
        subject = _subject(node)
        hangs = health.hangs(node)
        if look.stands("node_down", subject) or look.stands("engine_hangs", subject):
            hangs = look.stands("engine_hangs", subject)
        seen = f"It answered last at {node.last_seen_at:%H:%M:%S} UTC. " if node.last_seen_at else ""
        lost = "What ran on it is started elsewhere. " if node.health == Node.Health.LOST else ""
        if hangs:
            mend = f"On {node.name}: look at the engine's log, and restart it if it does not recover."
        else:
            mend = f"See that {node.name} is up, that its engine runs, and that this machine reaches it."
        sentence = f"{seen}{lost}{node.health_reason}"
        yield Condition(
            "engine_hangs" if hangs else "node_down", subject, node.name, sentence, mend, node_path(node.name)
        )


def engines_slow(look: Look) -> Iterator[Condition | Blind]:
    for node in look.nodes:
        sample = look.samples.get(node.pk)
        if sample is None or not sample.reachable or sample.took_s is None:
            yield Blind("engine_slow", _subject(node))
        elif SLOW.too_high(sample.took_s, look.stands("engine_slow", _subject(node))):
            yield Condition(
                "engine_slow",
                _subject(node),
                node.name,
                f"It took {sample.took_s:.1f} s to say who it is; usually that is milliseconds.",
                f"On {node.name}: look what its engine and its disk are busy with.",
                node_path(node.name),
            )


def the_brake(look: Look) -> Iterator[Condition | Blind]:
    if look.nobody_works:
        yield Blind("brake")  # nodes that nobody asks are not silent
    elif health.brake(look.now):
        yield Condition(
            "brake",
            "portal",
            "fleet",
            "Most nodes gave no answer at once. That looks like a fault on this side, so nothing is moved or ended.",
            "See that this machine reaches its private network.",
        )


def disks(look: Look) -> Iterator[Condition | Blind]:
    limit = settings.BERTH_ALERT_DISK_FREE_PERCENT
    threshold = Threshold(limit, limit + DISK_PLUS_PERCENT)
    for node in look.nodes:
        subject, path = _subject(node), node_path(node.name)
        if node.disk_problem:
            mend = "Make room on it; it is given nothing new until then."
            yield Condition("disk_full", subject, node.name, node.disk_problem, mend, path)
        sample, known, low = look.samples.get(node.pk), False, []
        for what, place in DISKS if sample and limit else ():
            size, free = getattr(sample, f"{what}_size_mib"), getattr(sample, f"{what}_free_mib")
            if not size or free is None:
                continue
            known, percent = True, 100 * free / size
            # One that is nearly full is told as that.
            if not node.disk_problem and threshold.too_low(percent, look.stands("disk_short", subject)):
                low.append(f"{percent:.0f} % of the disk with {place} are free ({free} of {size} MiB)")
        if low:
            mend = (
                f"On {node.name}: remove images that nobody needs (manage.py prune_images), or give it a larger disk."
            )
            yield Condition("disk_short", subject, node.name, f"{'; '.join(low)}.", mend, path)
        elif not known and limit:
            yield Blind("disk_short", subject)


def memory(look: Look) -> Iterator[Condition | Blind]:
    limit = settings.BERTH_ALERT_MEMORY_FREE_PERCENT
    if not limit:
        return
    threshold = Threshold(limit, limit + MEMORY_PLUS_PERCENT)
    for node in look.nodes:
        subject, sample = _subject(node), look.samples.get(node.pk)
        if sample is None or not sample.memory_total_mib or sample.memory_free_mib is None:
            yield Blind("memory_short", subject)
            continue
        percent = 100 * sample.memory_free_mib / sample.memory_total_mib
        if threshold.too_low(percent, look.stands("memory_short", subject)):
            yield Condition(
                "memory_short",
                subject,
                node.name,
                f"{percent:.0f} % of its memory are free ({sample.memory_free_mib} of {sample.memory_total_mib} MiB).",
                f"Let {node.name} lend less, or look what runs on it beside the containers.",
                node_path(node.name),
            )


def guards(look: Look) -> Iterator[Condition | Blind]:
    for node in look.nodes:
        if node.guard_problem:
            mend = "The workers put it right within two minutes; if it stays, look at the node (manage.py doctor)."
            yield Condition("guard", _subject(node), node.name, node.guard_problem, mend, node_path(node.name))
        if node.guard_problem and node.health != Node.Health.OK:
            yield Blind("guard", _subject(node))


def certificates_end(look: Look) -> Iterator[Condition | Blind]:
    ends = [(_subject(node), node.name, node.tls_expires_at, node_path(node.name)) for node in look.nodes]
    ends.append(("portal", "the portal", look.around.client_certificate_ends, ""))
    warn = timedelta(days=settings.BERTH_ALERT_CERTIFICATE_DAYS)
    for subject, name, at, path in ends:
        if at is None:
            yield Blind("certificate_ends", subject)
            yield Blind("certificate_expired", subject)
            continue
        left = at - look.now
        whose = "its engine's" if subject != "portal" else "its client"
        if left <= warn:
            sentence = f"It is good until {at:%d %b %Y, %H:%M:%S} UTC ({whose} certificate)."
            yield Condition("certificate_ends", subject, name, sentence, RENEW, path)
        if left <= timedelta(0):
            reached = "no engine can be reached" if subject == "portal" else "the engine cannot be reached"
            sentence = f"It was good until {at:%d %b %Y, %H:%M:%S} UTC; with it {reached}."
            yield Condition("certificate_expired", subject, name, sentence, RENEW, path)


# ---- gateways and storage -----------------------------------------------------------------------------------


def gateways(look: Look) -> Iterator[Condition | Blind]:
    for gateway in Gateway.objects.exclude(driver=Gateway.Driver.DIRECT):
        subject = f"gateway:{gateway.pk}"
        if gateway.problem:
            mend = "See that it is up and that SSH answers there; its rules go on as they are meanwhile."
            yield Condition("gateway_away", subject, gateway.name, gateway.problem, mend)
            yield Blind("gateway_drift", subject)
        elif gateway.drift:
            rules = "1 rule was" if gateway.drift == 1 else f"{gateway.drift} rules were"
            sentence = f"{rules} not as Berth had put them at the last look; they were put right."
            mend = f"Find out who changes Berth's chains on {gateway.name}: another program or a reboot?"
            yield Condition("gateway_drift", subject, gateway.name, sentence, mend)


def drift(look: Look) -> Iterator[Condition | Blind]:
    """What two looks one after the other found, with DRIFT_GRACE between: it did not mend by itself.

    A machine that could not be looked at is not told here: it is told to be down. What was told of it is not over then,
    nor while nobody looks.
    """
    looks = DriftLook.objects.exclude(finished_at=None).order_by("-finished_at").values_list("finished_at", "found")
    fresh = [(at, found) for at, found in looks[:DRIFT_LOOKS] if at and look.now - at < DRIFT_OLD]
    rows = [(at, [from_json(row) for row in found]) for at, found in fresh]
    before = next((found for at, found in rows if at <= rows[0][0] - DRIFT_GRACE), None)
    stays = {row.key: row for row in rows[0][1] if row.kind != Kind.NOT_CHECKED} if rows else {}
    keys = {row.key for row in before or ()} & stays.keys()
    if keys:
        first = min((stays[key] for key in keys), key=lambda row: (row.where, row.subject))
        count = f"{len(keys)} difference{' does' if len(keys) == 1 else 's do'} not go away"
        sentence = f"{count}, as {first.where}: {first.sentence}."
        mend = "The page of drift says what the button of each would do."
        yield Condition("drift", "fleet", "fleet", sentence, mend, reverse("monitor:drift"))
    elif not rows or (stays and before is None) or _unseen([found for _, found in rows]):
        yield Blind("drift", "fleet")


def _unseen(looks: Sequence[Sequence[Difference]]) -> bool:
    """Whether the newest of these looks misses a machine that may differ as it did before."""
    missed = {row.machine for row in looks[0] if row.kind == Kind.NOT_CHECKED}
    return PORTAL in missed or any(_differed(machine, looks[1:]) for machine in missed)


def _differed(machine: str, looks: Sequence[Sequence[Difference]]) -> bool:
    """Whether it did when it was looked at last; where that is too long ago it may have."""
    for found in looks:
        if any(row.machine == machine and row.kind != Kind.NOT_CHECKED for row in found):
            return True
        if not any(row.machine in {machine, PORTAL} and row.kind == Kind.NOT_CHECKED for row in found):
            return False
    return True


def storage(look: Look) -> Iterator[Condition | Blind]:
    for server in StorageServer.objects.filter(active=True).exclude(problem=""):
        mend = "See that it is up, that sftp answers there, and that its disk has room."
        yield Condition("storage_away", f"storage:{server.pk}", server.name, server.problem, mend)


def volumes(look: Look) -> Iterator[Condition | Blind]:
    """Those in use, counted by where they are: a storage server that fails is one incident, not a hundred."""
    rows = Container.objects.present().filter(volume__isnull=False).exclude(volume__problem="").order_by()
    wheres = rows.values_list("volume__server", "volume__server__name", "node", "node__name").annotate(n=Count("pk"))
    counts: Counter[tuple[str, str]] = Counter()
    for server, server_name, node, node_name, count in wheres:
        counts[(f"storage:{server}", server_name) if server else (f"node:{node}", node_name)] += count
    for (subject, name), count in counts.items():
        sentence = f"{count} volume{' is' if count == 1 else 's are'} not well; who uses them was told."
        mend = "They are mounted anew as soon as their storage answers (manage.py doctor names each)."
        yield Condition("volumes_degraded", subject, name, sentence, mend)


CHECKS: Checks = {
    nodes_down: ("node_down", "engine_hangs"),
    engines_slow: ("engine_slow",),
    the_brake: ("brake",),
    disks: ("disk_short", "disk_full"),
    memory: ("memory_short",),
    guards: ("guard",),
    certificates_end: ("certificate_ends", "certificate_expired"),
    gateways: ("gateway_away", "gateway_drift"),
    drift: ("drift",),
    storage: ("storage_away",),
    volumes: ("volumes_degraded",),
}
