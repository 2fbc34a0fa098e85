"""How gunicorn runs the portal (`--config python:portal.gunicorn_config`): its own lines look like all others."""

import logging.config
import os
from typing import Any

from gunicorn import glogging

from portal.env import load_env_file

load_env_file()
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")


class Logger(glogging.Logger):  # type: ignore[misc]  # of a library without types
    """Everything goes through the root's handler, in the form of BERTH_LOG_FORMAT."""

    def setup(self, cfg: Any) -> None:
        from django.conf import settings

        super().setup(cfg)
        logging.config.dictConfig(settings.LOGGING)
        for log in (self.error_log, self.access_log):
            log.handlers.clear()
            log.propagate = True


logger_class = Logger
# Off unless --access-logfile is given: the portal writes a line for each request itself (portal/tracing.py). Neither
# says what was asked for behind the "?", which may be a secret.
access_log_format = "%(h)s %(m)s %(U)s %(s)s %(B)s bytes %(L)s s"
