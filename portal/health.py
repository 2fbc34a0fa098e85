"""What machines ask: alive and ready. Numbers for Prometheus are in metrics/."""

import logging
from datetime import timedelta

from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.http import require_GET
from redis import Redis
from redis.exceptions import RedisError

from compute import clocks
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
