"""Tells the figures of this machine's processes where no web process does: BERTH_METRICS_LISTEN of a worker."""

import logging
import socket
import threading
from collections.abc import Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from django.conf import settings
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from portal.metrics import processes
from portal.metrics.page import has_token

logger = logging.getLogger(__name__)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Silent(WSGIRequestHandler):
    timeout = 10  # seconds for a client that says nothing

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
        """A line for each scrape would tell nothing."""


def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """A WSGI application: GET /metrics, with the token if there is one."""
    if environ["PATH_INFO"] != "/metrics" or environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"Only GET /metrics is here.\n"]
    if settings.BERTH_METRICS_TOKEN and not has_token(environ.get("HTTP_AUTHORIZATION", "")):
        start_response("401 Unauthorized", [("Content-Type", "text/plain"), ("WWW-Authenticate", "Bearer")])
        return [b"A bearer token is needed: BERTH_METRICS_TOKEN.\n"]
    start_response("200 OK", [("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)])
    return [generate_latest(processes.registry())]


def listen(host: str, port: int) -> WSGIServer | None:
    """Answer from a thread of its own until the process ends; None, and an error in the log, when that cannot be."""
    try:
        kind = _Server6 if ":" in host else _Server
        server = make_server(host, port, answer, server_class=kind, handler_class=_Silent)
    except OSError as problem:
        logger.error("BERTH_METRICS_LISTEN: nobody can listen on %s:%d: %s", host, port, problem)
        return None
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    logger.info("the figures of this machine are told on %s:%d", host, server.server_port)
    return server
