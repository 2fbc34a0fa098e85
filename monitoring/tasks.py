"""Monitoring's tasks; every one calls one function."""

from celery import shared_task
from django.utils import timezone

from monitoring import drift, report_mail


@shared_task
def look_for_drift() -> None:
    """The timetable's look."""
    drift.ask(by="timetable", now=timezone.now(), send=send_look)


@shared_task
def look_at_machine(look_id: int, machine: str) -> None:
    drift.look_at(look_id, machine, timezone.now)


def send_look(look_id: int, machine: str) -> None:
    look_at_machine.apply_async((look_id, machine), expires=600)


@shared_task
def mail_report() -> None:
    """The timetable's: last week's health report, once it is Monday."""
    report_mail.mail_weekly(timezone.now())
