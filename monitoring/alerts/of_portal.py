"""What is wrong with the portal itself: its processes, Redis, the queue, the books, the mails."""

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db.models import Count, Q

from billing.models import InvoiceDocument, LedgerAudit
from monitoring.alerts.conditions import Blind, Checks, Condition, Look
from monitoring.alerts.rules import Threshold
from monitoring.models import Delivery, Heartbeat
from reservations.models import Event, Reservation
from reservations.states import State

SWEEP_LATE = timedelta(seconds=20)
STUCK_AFTER = 3  # attempts
RESTART = "Start it again (script/server, or your service manager), and look at its log."


def processes(look: Look) -> Iterator[Condition | Blind]:
    """None of a kind is grave; one of several that is silent is told by its name."""
    found = look.processes
    living = {row.kind for row in found.alive}
    if Heartbeat.Kind.WORKER not in living:
        sentence = "Nothing is started, ended or watched until there is one. What runs goes on."
        yield Condition("no_worker", "portal", "worker", sentence, RESTART)
    if Heartbeat.Kind.BEAT not in living:
        sentence = "Nothing is swept, probed or looked at until there is one. What runs goes on."
        yield Condition("no_beat", "portal", "beat", sentence, RESTART)
    for row in found.silent:
        if row.kind in living:
            sentence = f"Its last sign of life was at {row.at:%d %b, %H:%M:%S} UTC, and it did not end as it should."
            yield Condition("process_silent", f"process:{row.name}"[:120], row.name, sentence, RESTART)


def sweeps(look: Look) -> Iterator[Condition | Blind]:
    swept_at = look.around.swept_at
    if look.nobody_works:
        yield Blind("no_sweep")
    elif swept_at is None or look.now - swept_at > SWEEP_LATE:
        since = f"The last sweep was at {swept_at:%H:%M:%S} UTC" if swept_at else "No sweep is known"
        mend = "Look at the worker's log; is the queue full of something else?"
        yield Condition("no_sweep", "portal", "portal", f"{since}, although worker and beat live.", mend)


def redis(look: Look) -> Iterator[Condition | Blind]:
    if problem := look.around.redis_problem:
        sentence = f"{problem}: hints and probes are not sent, so everything waits. Nothing that matters is only there."
        yield Condition("redis_away", "portal", "Redis", sentence, "See that Redis runs and can be reached.")


def clocks_off(look: Look) -> Iterator[Condition | Blind]:
    if look.around.redis_problem:
        yield Blind("clock_off")
    for name, sentence in look.around.clocks_off.items():
        mend = "See that the time of its machine is kept (chrony, ntpd); it does nothing until then."
        yield Condition("clock_off", f"process:{name}"[:120], name, f"{sentence}.", mend)


def backlog(look: Look) -> Iterator[Condition | Blind]:
    if look.nobody_works:
        yield Blind("backlog")
        return
    limit = settings.BERTH_ALERT_BACKLOG_S
    due = Reservation.objects.backlog(look.now)
    if Threshold(limit, limit / 2).too_high(due.oldest_s, look.stands("backlog", "portal")):
        sentence = f"{due.count} are due, the oldest for {due.oldest_s:.0f} s."
        mend = "Start more workers, or look in their log what takes so long."
        yield Condition("backlog", "portal", "portal", sentence, mend)


def start_failures(look: Look) -> Iterator[Condition | Blind]:
    """Of those whose start came to an end lately, how many failed. Who deleted it meanwhile did not."""
    minutes = settings.BERTH_ALERT_START_MINUTES
    lately = Event.objects.filter(at__gt=look.now - timedelta(minutes=minutes), old_state=State.STARTING)
    counts = lately.aggregate(
        failed=Count("pk", filter=Q(new_state=State.ENDING) & ~Q(reservation__failure="")),
        well=Count("pk", filter=Q(new_state=State.RUNNING)),
    )
    failed, ended = counts["failed"], counts["failed"] + counts["well"]
    percent = 100 * failed / ended if ended else 0.0
    limit, standing = settings.BERTH_ALERT_START_FAILURE_PERCENT, look.stands("start_failures", "portal")
    enough = failed >= settings.BERTH_ALERT_START_FAILURES or (standing and failed)
    if enough and Threshold(limit, limit / 2).too_high(percent, standing):
        sentence = f"{failed} of {ended} starts failed within {minutes} minutes."
        mend = "Each reservation says why it failed; look whether it is one node or one service."
        yield Condition("start_failures", "portal", "portal", sentence, mend)


def ledger(look: Look) -> Iterator[Condition | Blind]:
    audit = LedgerAudit.objects.first()
    if audit and audit.found:
        first = f" {audit.findings[0]}." if audit.findings else ""
        sentence = f"{audit.found} difference{'' if audit.found == 1 else 's'} on {audit.at:%d %b, %H:%M} UTC.{first}"
        yield Condition("ledger", "portal", "books", sentence, "manage.py audit_ledger names all; docs/billing.md.")


def mails(look: Look) -> Iterator[Condition | Blind]:
    stuck = Q(try_at__isnull=False, attempts__gte=STUCK_AFTER)
    invoices = InvoiceDocument.objects.filter(stuck).aggregate(n=Count("pk"))["n"]
    alerts = Delivery.objects.filter(stuck, channel=Delivery.Channel.MAIL).aggregate(n=Count("pk"))["n"]
    if invoices or alerts:
        sentence = f"{invoices} invoices and {alerts} alerts were tried {STUCK_AFTER} times or more, and wait."
        mend = "See that the mail server of BERTH_MAIL answers; they are sent as soon as it does."
        yield Condition("mail_stuck", "portal", "mail", sentence, mend)


CHECKS: Checks = {
    processes: ("no_worker", "no_beat", "process_silent"),
    sweeps: ("no_sweep",),
    redis: ("redis_away",),
    clocks_off: ("clock_off",),
    backlog: ("backlog",),
    start_failures: ("start_failures",),
    ledger: ("ledger",),
    mails: ("mail_stuck",),
}
