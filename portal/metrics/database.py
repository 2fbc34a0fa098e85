"""What the database says of nodes, gateways, storage and reservations, as metrics: asked anew at each scrape.

A constant number of queries, however many nodes there are. docs/metrics.md explains each name; the names follow
prometheus.io/docs/practices/naming: base units, units in the name, `_total` for what only grows.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Generic, TypeVar

from django.conf import settings
from django.db import DatabaseError
from django.db.models import Count, F, Min, OuterRef, Q, Subquery, Sum
from django.utils import timezone
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from compute import certificates, series
from compute.health import brake, hangs
from compute.models import Forward, Gateway, LoadStep, Node, Sample, StorageServer, Volume
from monitoring import heartbeats
from monitoring.models import Delivery, Heartbeat, Incident
from reservations.models import Reservation
from reservations.states import FINAL, LIVE
from reservations.tasks import last_sweep

logger = logging.getLogger(__name__)
MIB, GIB = 2**20, 2**30
PROCESS_LATE = timedelta(minutes=1)
T = TypeVar("T")
Value = float | int | Decimal | None


@dataclass(frozen=True, slots=True)
class Figure(Generic[T]):
    """A gauge of each subject of a kind. `of` reads it; None is not known, and is not told. `times` is its unit."""

    name: str
    help: str
    of: Callable[[T], Value]
    times: int = 1


def gauges(label: str, figures: Iterable[Figure[T]], subjects: Iterable[tuple[str, T]]) -> Iterator[Metric]:
    """Each figure with a value for each subject, which is told apart by `label`."""
    rows = list(subjects)
    for figure in figures:
        family = GaugeMetricFamily(figure.name, figure.help, labels=[label])
        for name, subject in rows:
            value = figure.of(subject)
            if value is not None:
                family.add_metric([name], float(value) * figure.times)
        yield family


def gauge(name: str, help_: str, value: Value) -> Metric:
    return GaugeMetricFamily(name, help_, None if value is None else float(value))


def _unix(at: datetime | None) -> float | None:
    return at.timestamp() if at else None


NODE: tuple[Figure[Node], ...] = (
    Figure("berth_node_up", "1 when the node's engine answered its last probes.", lambda n: n.health == "ok"),
    Figure(
        "berth_node_engine_hanging",
        "1 when the engine takes calls and does not answer them.",
        hangs,
    ),
    Figure("berth_node_probe_failures", "Probes that failed in a row.", lambda n: n.failures),
    Figure("berth_node_lending", "1 when it may be given something new.", lambda n: n.state == "active"),
    Figure(
        "berth_node_guarded",
        "1 when the node's own timer and firewall were as they should be at the last look.",
        lambda n: not n.guard_problem if n.guard_checked_at else None,
    ),
    Figure("berth_node_disk_ok", "0 when a disk is nearly full: it gets nothing new.", lambda n: not n.disk_problem),
    Figure(
        "berth_node_last_seen_timestamp_seconds",
        "When its engine answered last, as Unix time.",
        lambda n: _unix(n.last_seen_at),
    ),
    Figure(
        "berth_node_certificate_expiry_timestamp_seconds",
        "When the certificate of the node's engine ends, as Unix time.",
        lambda n: _unix(n.tls_expires_at),
    ),
    Figure("berth_node_lendable_memory_bytes", "RAM that may be lent.", lambda n: n.ram_mib, MIB),
    Figure("berth_node_lendable_cores", "Cores that may be lent.", lambda n: n.cores),
    # The two are annotated by _nodes.
    Figure("berth_node_held_memory_bytes", "RAM that is lent now.", lambda n: getattr(n, "held_ram_mib", 0) or 0, MIB),
    Figure("berth_node_held_cores", "Cores that are lent now.", lambda n: getattr(n, "held_cores", 0) or 0),
)
SAMPLE: tuple[Figure[Sample], ...] = (
    Figure("berth_node_engine_answer_seconds", "How long the engine took for its last reading.", lambda s: s.took_s),
    Figure("berth_node_memory_bytes", "RAM of the machine.", lambda s: s.memory_total_mib, MIB),
    Figure("berth_node_free_memory_bytes", "RAM that could be had.", lambda s: s.memory_free_mib, MIB),
    Figure("berth_node_cores", "Cores of the machine.", lambda s: s.cores),
    Figure("berth_node_used_cores", "Cores that worked since the reading before.", lambda s: s.cores_used),
    Figure("berth_node_load1", "Load average over 1 minute.", lambda s: s.load_1),
    Figure("berth_node_load5", "Load average over 5 minutes.", lambda s: s.load_5),
    Figure("berth_node_load15", "Load average over 15 minutes.", lambda s: s.load_15),
    Figure("berth_node_uptime_seconds", "Seconds since it booted.", lambda s: s.uptime_s),
    Figure("berth_node_containers_expected", "Containers that should run there.", lambda s: s.containers_expected),
    Figure("berth_node_containers", "Containers of ours that were found running.", lambda s: s.containers),
    Figure("berth_node_volumes_size_bytes", "Size of the disk with the volumes.", lambda s: s.volumes_size_mib, MIB),
    Figure("berth_node_volumes_free_bytes", "What is free of it.", lambda s: s.volumes_free_mib, MIB),
    Figure("berth_node_images_size_bytes", "Size of the disk with the images.", lambda s: s.images_size_mib, MIB),
    Figure("berth_node_images_free_bytes", "What is free of it.", lambda s: s.images_free_mib, MIB),
)
GATEWAY: tuple[Figure[Gateway], ...] = (
    Figure("berth_gateway_up", "1 when the last look at its rules went well.", lambda g: not g.problem),
    Figure("berth_gateway_rules_differing", "Rules that differed at the last look.", lambda g: g.drift),
    # The one is annotated by _gateways.
    Figure("berth_gateway_forwards_wanted", "Public ports that should lead somewhere.", lambda g: getattr(g, "wanted")),  # noqa: B009
    Figure(
        "berth_gateway_checked_timestamp_seconds",
        "When its rules were looked at last, as Unix time.",
        lambda g: _unix(g.checked_at),
    ),
)
STORAGE: tuple[Figure[StorageServer], ...] = (
    Figure("berth_storage_up", "1 when the server answered its last probe.", lambda s: not s.problem),
    Figure("berth_storage_size_bytes", "What may be promised of it.", lambda s: s.capacity_gb, GIB),
    Figure("berth_storage_promised_bytes", "Sizes of the volumes on it.", lambda s: getattr(s, "promised"), GIB),  # noqa: B009
    Figure(
        "berth_storage_last_seen_timestamp_seconds",
        "When it answered last, as Unix time.",
        lambda s: _unix(s.last_seen_at),
    ),
)


class DatabaseCollector(Collector):
    """Everything that the rows know now."""

    def collect(self) -> Iterator[Metric]:
        """Only `berth_database_up` is told when the database does not answer."""
        try:
            found, up = list(_everything(timezone.now())), 1
        except DatabaseError as problem:
            logger.error("/metrics: the database does not answer: %s", problem)
            found, up = [], 0
        yield from found
        yield gauge("berth_database_up", "1 when the database answered this scrape.", up)


def _everything(now: datetime) -> Iterator[Metric]:
    yield from _nodes(now)
    yield from _gateways()
    promised = Sum("volume__size_gb", filter=~Q(volume__state=Volume.State.REMOVED), default=0)
    servers = StorageServer.objects.filter(active=True).annotate(promised=promised)
    yield from gauges("storage", STORAGE, ((server.name, server) for server in servers))
    yield from _reservations(now)
    yield from _processes(now)
    yield from _incidents(now)


def _nodes(now: datetime) -> Iterator[Metric]:
    held = LoadStep.objects.filter(node=OuterRef("pk"), at__lte=now).order_by("-at")
    nodes = list(
        Node.objects.present()
        .select_related("gateway")
        .annotate(held_ram_mib=Subquery(held.values("ram_mib")[:1]), held_cores=Subquery(held.values("cores")[:1]))
        .order_by("name")
    )
    labels = ["node", "gateway", "state", "health", "engine_version"]
    info = GaugeMetricFamily("berth_node_info", "1; what the node is and how it is.", labels=labels)
    for node in nodes:
        info.add_metric([node.name, node.gateway.name, node.state, node.health, node.engine_version], 1)
    yield info
    yield from gauges("node", NODE, ((node.name, node) for node in nodes))
    samples = series.latest_of_nodes(now)
    yield from gauges("node", SAMPLE, ((node.name, samples[node.pk]) for node in nodes if node.pk in samples))
    yield gauge("berth_brake", "1 while most nodes are silent at once, and so nothing is moved.", brake(now))
    if ends := certificates.client_expiry(settings.BERTH_TLS_DIR):
        name = "berth_client_certificate_expiry_timestamp_seconds"
        yield gauge(name, "When the portal's own certificate for the engines ends, as Unix time.", ends.timestamp())


def _gateways() -> Iterator[Metric]:
    gateways = list(Gateway.objects.annotate(wanted=Count("forwards", filter=Q(forwards__wanted=True))))
    help_ = "Rules that were found wrong and mended."
    drift = CounterMetricFamily("berth_gateway_drift_rules", help_, labels=["gateway"])
    for gateway in gateways:
        drift.add_metric([gateway.name], gateway.drift_total)
    yield drift
    yield from gauges("gateway", GATEWAY, ((gateway.name, gateway) for gateway in gateways))
    wanted = Forward.objects.wanted().count()
    yield gauge("berth_forwards_wanted", "Public ports that should lead somewhere now.", wanted)
    late = Forward.objects.exclude(wanted=F("applied")).count()
    yield gauge("berth_forwards_unapplied", "Those that a gateway has yet to get or to lose.", late)


def _reservations(now: datetime) -> Iterator[Metric]:
    live = dict(Reservation.objects.live().order_by().values_list("state").annotate(Count("pk")))
    by_state = GaugeMetricFamily("berth_reservations", "Live reservations by state.", labels=["state"])
    for state in sorted(LIVE):
        by_state.add_metric([state.value], live.get(state.value, 0))
    yield by_state
    backlog = Reservation.objects.backlog(now)
    yield gauge("berth_reservations_due", "Reservations that wait to be looked at.", backlog.count)
    yield gauge("berth_oldest_due_seconds", "How long the first of those has waited.", backlog.oldest_s)
    unsettled = Reservation.objects.filter(state__in=FINAL, settled_at=None).count()
    yield gauge("berth_reservations_unsettled", "Ended ones whose cost is not in the ledger yet.", unsettled)
    if swept_at := last_sweep():
        yield gauge("berth_sweep_age_seconds", "Seconds since the last sweep.", _age(swept_at, now))


def _processes(now: datetime) -> Iterator[Metric]:
    beats = GaugeMetricFamily(
        "berth_process_heartbeat_timestamp_seconds",
        "When the process told last that it lives, as Unix time.",
        labels=["kind", "process"],
    )
    alive = dict.fromkeys((kind.value for kind in Heartbeat.Kind), 0)
    found = heartbeats.processes(now)
    for row in (*found.alive, *found.silent):
        beats.add_metric([row.kind, row.name], row.at.timestamp())
        alive[row.kind] += now - row.at < PROCESS_LATE
    help_ = "Processes that told within the last minute that they live."
    count = GaugeMetricFamily("berth_processes", help_, labels=["kind"])
    for kind, number in alive.items():
        count.add_metric([kind], number)
    yield beats
    yield count


def _incidents(now: datetime) -> Iterator[Metric]:
    told = Incident.objects.open().order_by().values_list("kind", "severity").annotate(Count("pk"))
    of = GaugeMetricFamily("berth_incidents_open", "Incidents that are not over.", labels=["kind", "severity"])
    for kind, severity, count in told:
        of.add_metric([kind, severity], count)
    yield of
    waiting = Delivery.objects.filter(try_at__isnull=False).aggregate(count=Count("pk"), oldest=Min("created_at"))
    yield gauge("berth_alert_deliveries_waiting", "Messages about incidents that are not sent yet.", waiting["count"])
    help_ = "How long the first of those has waited."
    yield gauge("berth_oldest_alert_delivery_seconds", help_, _age(waiting["oldest"], now))


def _age(at: datetime | None, now: datetime) -> float:
    return (now - at).total_seconds() if at else 0
