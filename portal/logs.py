"""Log lines: all of a process in one form, with the ids of what it is working on, and without secrets.

Everything logs by the standard library (`logging.getLogger(__name__)`); structlog gives the form. `json` is one object
a line for machines, `text` is for people. docs/logs.md says what is in a line. No Django is needed here: gunicorn's
first process and Celery log the same way.
"""

import json
import re
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

FORMATS = ("json", "text")
QUIET = ("kombu", "amqp", "docker", "stripe", "urllib3", "weasyprint", "fontTools")
CHATTER = ("celery.worker.strategy", "celery.app.trace", "celery.beat")  # sent, received, done: sixty lines a second
EXTRAS = ("status", "status_code", "method", "path", "route", "duration_s", "task", "pid")  # of a record, that are told
HIDDEN = "[hidden]"
# A net below the rule that no secret is logged: what a message, or a library's error in it, might hold. Strangers
# send what is logged: a name is looked at from its begin only, and its end is bounded; else a long one takes seconds.
SECRETS = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"\bberth_[\w-]{16,}"), HIDDEN),  # tokens of the API
    (re.compile(r"\b((?:sk|rk)_(?:live|test)|whsec)_\w+"), HIDDEN),  # Stripe's
    (re.compile(r"((?<!\w)\w+://[^\s:/@]*):[^\s/@]+@"), rf"\1:{HIDDEN}@"),  # password in an address
    (
        re.compile(r"(/password/reset/key/|/confirm-email/|/workspaces/join/|/notifications/stop/)[^/\s\"']+"),
        rf"\1{HIDDEN}",
    ),
    (re.compile(r"([?&](?:ticket|code)=)[^\s&\"']+"), rf"\1{HIDDEN}"),  # of the live pages, of single sign-on
    (re.compile(r"(/reservations/calendar/)[\w=%-]{16,}\.ics"), rf"\1{HIDDEN}.ics"),
    (
        re.compile(
            r"(?i)(?<![\w-])([\w-]*(?:password|passwd|secret|token|credentials?|apikey|(?:api|secret|access|private)[_-]key"
            r"|signature|sessionid|csrf\w{0,40})"
            r"[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&\"'}]+)"
        ),
        rf"\1{HIDDEN}",
    ),
)


def configuration(form: str, level: str) -> dict[str, Any]:
    """What logging.config.dictConfig takes: everything goes to stderr through one formatter."""
    quiet = QUIET if level == "DEBUG" else (*QUIET, *CHATTER)
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": "structlog.stdlib.ProcessorFormatter",
                "foreign_pre_chain": before(),
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, hide, _renderer(form)],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {name: {"level": "WARNING"} for name in quiet}
        # Django gives these handlers of their own; gunicorn's and Celery's come through the root as well.
        | {name: {"handlers": [], "propagate": True} for name in ("django", "django.server", "py.warnings")},
    }


def before() -> list[Processor]:
    """What is added to a record of the standard library before it is rendered."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(allow=EXTRAS),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.format_exc_info,
    ]


def hide(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """The same without secrets, as far as they can be told from what is around them."""
    return {name: without_secrets(value) if isinstance(value, str) else value for name, value in event.items()}


def without_secrets(text: str) -> str:
    for pattern, instead in SECRETS:
        text = pattern.sub(instead, text)
    return text


def _renderer(form: str) -> Processor:
    return _as_text if form == "text" else structlog.processors.JSONRenderer(serializer=_json)


def _json(event: EventDict, **options: Any) -> str:
    first: dict[str, Any] = {name: event.pop(name) for name in ("at", "level", "logger", "event") if name in event}
    return json.dumps(first | dict(event), default=str)  # line ends of Unicode are escaped, too


def _as_text(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """`2026-11-21 07:30:00.123 INFO compute.health: node two is back [node=two request=…]`, a traceback below."""
    at = str(event.pop("at", ""))[:23].replace("T", " ")
    head = f"{at} {str(event.pop('level', '')).upper()} {event.pop('logger', '')}: {_one_line(event.pop('event', ''))}"
    traceback = str(event.pop("exception", "") or "")
    known = " ".join(f"{name}={_one_line(value)}" for name, value in sorted(event.items()))
    return head + (f" [{known}]" if known else "") + (f"\n{traceback}" if traceback else "")


def _one_line(value: object) -> str:
    """Whoever can get a line break into a message could write lines of their own."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(value))
