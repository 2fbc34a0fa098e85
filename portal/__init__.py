"""The Django project: settings, addresses, the timetable, home page, health endpoints."""

from portal.celery import app as celery_app

__all__ = ["celery_app"]
