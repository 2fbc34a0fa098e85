"""Monitoring: see it before the customers do."""

from django.apps import AppConfig


class MonitoringConfig(AppConfig):
    name = "monitoring"
