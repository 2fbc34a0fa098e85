"""One id for all that follows from one request: in the answer, in every log line, in the tasks that it sent.

A request brings its id (`X-Request-ID`, if that is well formed) or gets one. A message to a worker carries it in its
headers, and what the timetable sends gets one of its own, as `sweep-3f2a91bc`: the hints that a sweep sends, and what
their tasks log, can be told from another's. `reservation` and `node` are bound where one is worked on.
"""

import logging
import re
import time
import uuid
from collections.abc import Callable
from typing import Any

from celery.signals import before_task_publish, setup_logging, task_postrun, task_prerun
from django.core.signals import request_finished
from django.http import HttpRequest, HttpResponse
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

from portal.metrics import processes

logger = logging.getLogger("portal.requests")
HEADER = "X-Request-ID"
CARRIED = "berth_request_id"  # the header of Celery's messages
WELL_FORMED = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._-]{7,63}\Z")
BY_MACHINES = ("/healthz", "/readyz", "/metrics", "/static/", "/favicon.ico")
OTHER_METHOD = "other"
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
NO_ROUTE = "none"


def request_id() -> str:
    """Of what is being done in this thread; empty when it has none."""
    return str(get_contextvars().get("request_id", ""))


def accepted(text: str | None) -> str:
    """What a client calls its request, if that can go into logs and headers as it is; else a new id."""
    return text if text and WELL_FORMED.match(text) else uuid.uuid4().hex


class RequestMiddleware:
    """Gives each request its id, and tells the log and /metrics how it was answered."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        clear_contextvars()
        bind_contextvars(request_id=accepted(request.headers.get(HEADER)))
        begun = time.perf_counter()
        response = self.get_response(request)
        took = time.perf_counter() - begun
        response.headers[HEADER] = request_id()
        method = request.method if request.method in METHODS else OTHER_METHOD
        route = route_of(request)
        processes.REQUEST_SECONDS.labels(route, method, f"{response.status_code // 100}xx").observe(took)
        logger.log(
            logging.DEBUG if request.path.startswith(BY_MACHINES) else logging.INFO,
            "%s %s %d",
            method,
            path_of(request),
            response.status_code,
            extra={"status": response.status_code, "route": route, "duration_s": round(took, 4)},
        )
        return response


def route_of(request: HttpRequest) -> str:
    """The name of the address in the URL table: a few hundred at most, whatever people ask for."""
    if request.path.startswith("/static/"):
        return "static"
    found = request.resolver_match
    return (found.view_name or found.route or NO_ROUTE) if found else NO_ROUTE


def path_of(request: HttpRequest) -> str:
    """The path for the log: without what is asked (?…), the keys that mails lead to, and secret addresses."""
    found = request.resolver_match
    if found and {"key", "uidb36", "secret"} & found.kwargs.keys():
        return f"/{found.route}"
    return request.path[:200]


def _forget(**kwargs: Any) -> None:
    clear_contextvars()


# ---- tasks ------------------------------------------------------------------------------------------------


def _send_along(headers: dict[str, Any], **kwargs: Any) -> None:
    if known := request_id():
        headers[CARRIED] = known


def _begin(task_id: str, task: Any, **kwargs: Any) -> None:
    short = task.name.rpartition(".")[2]
    if task.request.is_eager:  # it runs within what sent it
        return
    clear_contextvars()
    sent = str(getattr(task.request, CARRIED, "") or "")
    bind_contextvars(
        request_id=sent if WELL_FORMED.match(sent) else f"{short.replace('_', '-')}-{task_id[:8]}", task=short
    )
    task.request.berth_begun = time.perf_counter()


def _end(task: Any, state: str | None = None, **kwargs: Any) -> None:
    begun = getattr(task.request, "berth_begun", None)
    if begun is None:
        return
    result = "success" if state == "SUCCESS" else "failure"
    processes.TASK_SECONDS.labels(task.name, result).observe(time.perf_counter() - begun)
    clear_contextvars()


def _log_as_django_does(**kwargs: Any) -> None:
    """Celery sets up no handlers of its own when somebody listens to this; Django's are there already."""


def connect() -> None:
    """Listen to requests and tasks of this process; a second time does nothing."""
    request_finished.connect(_forget, dispatch_uid="berth-tracing")
    before_task_publish.connect(_send_along, dispatch_uid="berth-tracing")
    task_prerun.connect(_begin, dispatch_uid="berth-tracing")
    task_postrun.connect(_end, dispatch_uid="berth-tracing")
    setup_logging.connect(_log_as_django_does, dispatch_uid="berth-tracing")
