"""What runs in a stack, as text for supervisord. Pure: values in, text out."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.stack.layout import Layout

DATABASES = ("postgres", "redis")
PORTAL = ("web", "worker", "beat", "live")


@dataclass(frozen=True)
class Program:
    """One line of work of the stack: how it is started and stopped."""

    name: str
    argv: tuple[str, ...]
    priority: int  # started in this order, stopped in the other
    stop_signal: str = "TERM"
    stop_seconds: int = 15
    start_seconds: int = 1


def postgres(layout: Layout, *, bindir: Path, careless: bool) -> Program:
    """A private PostgreSQL. `careless` trades the data's safety for speed: only where tests fill it.

    Careless data is lost when the machine dies, not when PostgreSQL does: a commit that was acknowledged is in the
    kernel's hands, so that tests may kill it and count on what was committed.
    """
    settings = {
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        "shared_buffers": "64MB",
        "max_connections": "100",
        "work_mem": "8MB",
        "maintenance_work_mem": "64MB",
        "max_wal_size": "512MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    if careless:
        settings |= {"fsync": "off", "full_page_writes": "off"}
    data = str(layout.inside(layout.postgres_data))
    argv = [str(bindir / "postgres"), "-D", data, "-k", str(layout.postgres_sockets)]
    for key, value in settings.items():
        argv += ["-c", f"{key}={value}"]
    return Program("postgres", tuple(argv), priority=10, stop_signal="INT", stop_seconds=30)


def redis(layout: Layout) -> Program:
    """A private Redis. It holds hints and counters only: nothing is written to disk, old keys may go."""
    settings = {
        "port": "0",
        "unixsocket": str(layout.redis_socket),
        "unixsocketperm": "700",
        "dir": str(layout.redis_socket.parent),
        "save": "",
        "appendonly": "no",
        "maxmemory": "64mb",
        "maxmemory-policy": "allkeys-lru",
        "daemonize": "no",
    }
    argv = ["redis-server"]
    for key, value in settings.items():
        argv += [f"--{key}", value]
    return Program("redis", tuple(argv), priority=10)


def portal(layout: Layout, *, port: int) -> list[Program]:
    """Web server, worker, timetable, and what tells browsers. One beat only: two would mean everything twice."""
    python = str(layout.python)
    web = (
        *(
            python,
            "-m",
            "gunicorn",
            "portal.wsgi",
            "--worker-class",
            "gthread",
            "--workers",
            "1",
            "--threads",
            "8",
        ),
        *("--bind", f"127.0.0.1:{port}", "--keep-alive", "65", "--graceful-timeout", "10", "--timeout", "60"),
        *("--worker-tmp-dir", str(layout.scratch), "--no-control-socket", "--log-level", "info"),
        *("--config", "python:portal.gunicorn_config"),
    )
    worker = (
        *(python, "-m", "celery", "-A", "portal", "worker", "--pool", "threads", "--concurrency", "12"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "info"),
        *("--hostname", f"worker@{layout.name}"),
    )
    beat = (
        *(python, "-m", "celery", "-A", "portal", "beat", "--loglevel", "warning", "--pidfile="),
        *("--schedule", str(layout.scratch / "beat-schedule")),
    )
    return [
        Program("web", web, priority=30, start_seconds=2),
        Program("worker", worker, priority=30, stop_seconds=25, start_seconds=2),
        Program("beat", beat, priority=40, stop_seconds=5, start_seconds=2),
        Program("live", (python, "-m", "portal.live"), priority=40, stop_seconds=5),
    ]


def supervisord_conf(layout: Layout, programs: Sequence[Program], *, prefix: Sequence[str]) -> str:
    """The configuration of supervisord; `prefix` goes before each command and drops root's rights."""
    log = layout.inside(layout.log)
    sections = [
        {
            "": "unix_http_server",
            "file": str(layout.control),
            "chmod": "0700",
        },
        {
            "": "supervisord",
            "nodaemon": "true",
            **({"user": "root"} if layout.as_root else {}),
            "identifier": f"berth-{layout.name}",
            "directory": str(layout.app),
            "pidfile": str(layout.run / "supervisord.pid"),
            "logfile": str(log / "supervisord.log"),
            "logfile_maxbytes": "1MB",
            "logfile_backups": "1",
            "umask": "022",
        },
        {
            "": "rpcinterface:supervisor",
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface",
        },
        {"": "supervisorctl", "serverurl": f"unix://{layout.control}"},
        *(_program_section(layout, program, log=log, prefix=prefix) for program in programs),
    ]
    return "\n".join(_section(section) for section in sections)


def _program_section(layout: Layout, program: Program, *, log: Path, prefix: Sequence[str]) -> dict[str, str]:
    return {
        "": f"program:{program.name}",
        "command": shlex.join([*prefix, *program.argv]),
        "directory": str(layout.app),  # supervisord itself goes to its own only when it becomes a daemon
        "priority": str(program.priority),
        "autostart": "false",  # lab.stack starts them in order; after that they are kept alive
        "autorestart": "true",
        "startsecs": str(program.start_seconds),
        "startretries": "100",  # each try waits a second longer than the one before
        "stopsignal": program.stop_signal,
        "stopwaitsecs": str(program.stop_seconds),
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": str(log / f"{program.name}.log"),
        "stdout_logfile_maxbytes": "5MB",
        "stdout_logfile_backups": "2",
    }


def _section(section: dict[str, str]) -> str:
    lines = [f"[{section['']}]"]
    lines += [f"{key}={value.replace('%', '%%')}" for key, value in section.items() if key]
    return "\n".join(lines) + "\n"
