"""`python -m portal.live`: runs the process. BERTH_LIVE_LISTEN says where it listens."""

import logging.config
import os
import sys
from typing import Any

import uvicorn

from portal.env import load_env_file


def database_parameters() -> dict[str, Any]:
    """How Django itself would connect, without what is its own."""
    from django.db import connection

    parameters = connection.get_connection_params()
    return {name: value for name, value in parameters.items() if name not in {"context", "cursor_factory", "pool"}}


def main() -> int:
    load_env_file()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")
    # Settings and signatures are all of Django that is needed: no apps are loaded, which keeps the process small.
    from django.conf import settings

    from portal.live.server import application

    logging.config.dictConfig(settings.LOGGING)
    host, port = settings.BERTH_LIVE_LISTEN
    uvicorn.run(
        application(database_parameters()),
        host=host,
        port=port,
        log_config=None,
        access_log=False,  # the address holds the ticket
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=3,
        backlog=2048,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
