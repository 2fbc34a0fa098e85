"""What machines ask: alive, ready, and numbers for Prometheus."""

import logging
from datetime import datetime, timedelta

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_GET
from redis import Redis
from redis.exceptions import RedisError

from compute import certificates, clocks
from compute.health import brake
from compute.models import Forward, Gateway, Node
from portal.metrics import Metric, exposition
from reservations.models import Reservation
from reservations.states import LIVE
from reservations.tasks import last_sweep

logger = logging.getLogger(__name__)
SWEEP_LATE = timedelta(seconds=15)


@require_GET
def healthz(request: HttpRequest) -> HttpResponse:
    """Alive: this process answers."""
    return HttpResponse("ok\n", content_type="text/plain")


@require_GET
def readyz(request: HttpRequest) -> HttpResponse:
    """Ready: database, Redis, a right clock, and a worker that sweeps. 503 with what is missing."""
    problems = {}
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        if off := clocks.problem():
            problems["clock"] = off
    except DatabaseError as problem:
        logger.error("the database does not answer: %s", problem)  # the message names hosts and accounts
        problems["database"] = "does not answer"
    try:
        Redis.from_url(settings.REDIS_URL, socket_connect_timeout=1, socket_timeout=1).ping()
    except (RedisError, OSError) as problem:
        logger.error("Redis does not answer: %s", problem)
        problems["redis"] = "does not answer"
    swept_at = last_sweep()
    if swept_at is None:
        problems["worker"] = "no sweep of a worker is known"
    elif timezone.now() - swept_at > SWEEP_LATE:
        problems["worker"] = f"the last sweep was at {swept_at:%Y-%m-%d %H:%M:%S} UTC"
    return JsonResponse({"ready": not problems, "problems": problems}, status=503 if problems else 200)


@require_GET
def metrics(request: HttpRequest) -> HttpResponse:
    """Counts for Prometheus, in its text format."""
    now = timezone.now()
    live = Reservation.objects.live().order_by().values_list("state").annotate(Count("pk"))
    by_state = {state.value: 0 for state in LIVE} | dict(live)
    swept_at = last_sweep()
    nodes = list(Node.objects.present())
    client_ends = certificates.client_expiry(settings.BERTH_TLS_DIR)
    found = [
        Metric("berth_reservations", "Live reservations by state.", {(("state", s),): n for s, n in by_state.items()}),
        Metric("berth_reservations_due", "Reservations that wait to be looked at.", {(): due_count(now)}),
        Metric(
            "berth_forwards_wanted",
            "Public ports that should lead somewhere now.",
            {(): Forward.objects.wanted().count()},
        ),
        Metric(
            "berth_node_up",
            "1 when the node's engine answered its last probes.",
            {(("node", n.name),): int(n.health == Node.Health.OK) for n in nodes},
        ),
        Metric("berth_brake", "1 while most nodes are silent at once, and so nothing is moved.", {(): int(brake(now))}),
        Metric(
            "berth_node_guarded",
            "1 when the node's own timer and firewall were as they should be at the last look.",
            {(("node", n.name),): int(not n.guard_problem) for n in nodes if n.guard_checked_at},
        ),
        Metric(
            "berth_node_certificate_expiry_timestamp_seconds",
            "When the certificate of the node's engine ends, as Unix time.",
            {(("node", n.name),): n.tls_expires_at.timestamp() for n in nodes if n.tls_expires_at},
        ),
        Metric(
            "berth_client_certificate_expiry_timestamp_seconds",
            "When the portal's own certificate for the engines ends, as Unix time.",
            {(): client_ends.timestamp()} if client_ends else {},
        ),
        Metric(
            "berth_gateway_drift_rules_total",
            "Rules that were found wrong and mended.",
            {(("gateway", g.name),): g.drift_total for g in Gateway.objects.all()},
            kind="counter",
        ),
        Metric(
            "berth_sweep_age_seconds",
            "Seconds since the last sweep.",
            {(): (now - swept_at).total_seconds()} if swept_at else {},
        ),
    ]
    return HttpResponse(exposition(found), content_type="text/plain; version=0.0.4; charset=utf-8")


def due_count(now: datetime) -> int:
    return Reservation.objects.due(now).count()
