"""The queue and the whole timetable.

A task is a hint ("look at reservation 7 now"), never the only memory of something to do: the rows are the
queue, and the sweep finds every row that is due. So a lost, late or doubled task changes nothing.
"""

import atexit
import logging
import os
import socket
import threading
from typing import Any

from celery import Celery
from celery.schedules import crontab
from celery.signals import beat_embedded_init, beat_init, before_task_publish, worker_ready, worker_shutdown

from portal.env import load_env_file

logger = logging.getLogger(__name__)
load_env_file()
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

app = Celery("berth", task_cls="portal.punctual:PunctualTask")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.beat_scheduler = "portal.punctual:Timetable"
app.autodiscover_tasks()


@worker_ready.connect
def free_old_claims(sender: Any, **kwargs: Any) -> None:
    """A worker that starts frees what its dead predecessor of the same name had claimed."""
    from django.conf import settings  # the apps are loaded by now

    from compute import failpoints
    from reservations.claims import work_as

    if settings.BERTH_FAIL_DIR:
        logger.warning("fail points are on: this worker dies where a test says so (BERTH_FAIL_DIR)")
        failpoints.arm_from(settings.BERTH_FAIL_DIR)

    freed = work_as(sender.hostname)
    if freed:
        logger.warning("worker %s: freed %d claims of a worker that died", sender.hostname, freed)


@worker_ready.connect
def watch_the_clock(sender: Any, **kwargs: Any) -> None:
    """A worker whose clock is off takes no work while it is."""
    from compute import clocks
    from portal import punctual

    clocks.process_name = sender.hostname
    queue = app.conf.task_default_queue
    threading.Thread(target=punctual.keep_apart, args=(sender, queue), name="clock", daemon=True).start()


@worker_ready.connect
def watch_as_a_worker(sender: Any, **kwargs: Any) -> None:
    """It says that it lives, and looks for what is wrong, whatever its tasks do."""
    from monitoring.alerts.watchdog import Watchdog
    from monitoring.models import Heartbeat

    watchdog = Watchdog(sender.hostname, Heartbeat.Kind.WORKER)
    watchdog.start()
    worker_shutdown.connect(lambda **_: watchdog.end(), weak=False)


@beat_init.connect
@beat_embedded_init.connect
def watch_as_a_beat(sender: Any, **kwargs: Any) -> None:
    """The same for beat, so that each of the two is missed by the other."""
    from monitoring.alerts.watchdog import Watchdog
    from monitoring.models import Heartbeat

    watchdog = Watchdog(f"beat@{socket.gethostname()}", Heartbeat.Kind.BEAT)
    watchdog.start()
    atexit.register(watchdog.end)


@worker_ready.connect
def tell_figures(sender: Any, **kwargs: Any) -> None:
    """A worker on a machine without a web process tells itself what it counted."""
    from django.conf import settings

    from portal.metrics import listener

    if settings.BERTH_METRICS_LISTEN:
        listener.listen(*settings.BERTH_METRICS_LISTEN)


@before_task_publish.connect
def date_nothing_wrongly(headers: dict[str, Any], **kwargs: Any) -> None:
    from portal import punctual

    punctual.leave_out_expiry(headers)


app.conf.beat_schedule = {
    "sweep": {"task": "reservations.tasks.sweep", "schedule": 1.0, "options": {"expires": 2}},
    "offer to who waits": {"task": "reservations.tasks.offer_waiting", "schedule": 2.0, "options": {"expires": 2}},
    "offer a later start": {"task": "reservations.tasks.offer_later", "schedule": 30.0, "options": {"expires": 30}},
    "probe nodes": {"task": "compute.tasks.probe", "schedule": 5.0, "options": {"expires": 5}},
    # A round every 15 s; asked for more often, so that none is left out when this clock runs a little apart.
    "sample nodes": {"task": "compute.tasks.begin_sampling", "schedule": 5.0, "options": {"expires": 5}},
    "roll up samples": {"task": "compute.tasks.roll_up_samples", "schedule": 300.0, "options": {"expires": 300}},
    "prune samples": {"task": "compute.tasks.prune_samples", "schedule": 3600.0, "options": {"expires": 3600}},
    "check gateways": {"task": "compute.tasks.check_gateways", "schedule": 10.0, "options": {"expires": 10}},
    "check guards": {"task": "compute.tasks.check_guards", "schedule": 60.0, "options": {"expires": 60}},
    "watch nodes": {"task": "reservations.tasks.watch_nodes", "schedule": 10.0, "options": {"expires": 10}},
    "check disks": {"task": "reservations.tasks.check_disks", "schedule": 20.0, "options": {"expires": 20}},
    "check storage": {"task": "reservations.tasks.check_storage", "schedule": 15.0, "options": {"expires": 15}},
    "sweep volumes": {"task": "reservations.tasks.sweep_volumes", "schedule": 60.0, "options": {"expires": 60}},
    "settle": {"task": "billing.tasks.settle", "schedule": 10.0, "options": {"expires": 10}},
    "note budgets": {"task": "billing.tasks.note_budgets", "schedule": 60.0, "options": {"expires": 60}},
    "issue invoices": {"task": "billing.tasks.issue_invoices", "schedule": 600.0, "options": {"expires": 600}},
    "mail invoices": {"task": "billing.tasks.mail_invoices", "schedule": 60.0, "options": {"expires": 60}},
    "audit ledger": {"task": "billing.tasks.audit_ledger", "schedule": crontab(hour=2, minute=40)},  # UTC
    "tell of audit": {"task": "billing.tasks.tell_of_audit", "schedule": 600.0, "options": {"expires": 600}},
    "look for drift": {"task": "monitoring.tasks.look_for_drift", "schedule": 300.0, "options": {"expires": 300}},
    "mail report": {"task": "monitoring.tasks.mail_report", "schedule": 600.0, "options": {"expires": 600}},
    "forget incidents": {"task": "monitoring.tasks.forget_incidents", "schedule": 3600.0, "options": {"expires": 3600}},
    "warn of ends": {"task": "reservations.tasks.warn_of_ends", "schedule": 10.0, "options": {"expires": 10}},
    "mail news": {"task": "reservations.tasks.mail_news", "schedule": 10.0, "options": {"expires": 10}},
    "forget the past": {"task": "reservations.tasks.prune", "schedule": 3600.0, "options": {"expires": 3600}},
}
# Where the workers cannot do all that is in the queue, sweeps and hints (0) come first, then probes, then the rounds.
app.conf.task_routes = {
    "compute.tasks.probe_node": {"priority": 3},
    "compute.tasks.check_guard": {"priority": 6},
    "compute.tasks.sample": {"priority": 7},
    "compute.tasks.*_samples": {"priority": 9},
    "reservations.tasks.watch_node": {"priority": 6},
    "reservations.tasks.sweep_volumes_of": {"priority": 6},
    "reservations.tasks.check_*": {"priority": 6},
    "reservations.tasks.warn_of_ends": {"priority": 6},
    "reservations.tasks.mail_news": {"priority": 7},
    "billing.tasks.*": {"priority": 9},
    "monitoring.tasks.look_*": {"priority": 9},
    "monitoring.tasks.mail_report": {"priority": 9},
}
