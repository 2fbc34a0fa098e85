"""Monitoring's tasks; every one calls one function."""

from celery import shared_task
from django.utils import timezone
from kombu.exceptions import OperationalError

from monitoring import drift, report_mail
from monitoring.alerts import incidents


@shared_task
def look_for_drift() -> None:
    """The timetable's look."""
    drift.ask(by="timetable", now=timezone.now(), send=send_look)


@shared_task
def look_at_machine(look_id: int, machine: str) -> None:
    drift.look_at(look_id, machine, timezone.now)


def send_look(look_id: int, machine: str) -> None:
    """Raises drift.NoQueue."""
    try:
        look_at_machine.apply_async((look_id, machine), expires=600)
    except OperationalError as problem:
        raise drift.NoQueue(str(problem)) from problem


@shared_task
def mail_report() -> None:
    """The timetable's: last week's health report, once it is Monday."""
    report_mail.mail_weekly(timezone.now())


@shared_task
def forget_incidents() -> None:
    incidents.forget(timezone.now())
