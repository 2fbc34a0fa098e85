"""What happened to a row: Django's entries of the admin, and the audit log, as one list."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.admin.options import get_content_type_for_model
from django.db.models import Model

MOST = 200


@dataclass(frozen=True, slots=True)
class Happened:
    """`source` is "audit" or "admin"."""

    at: datetime
    by: str
    what: str
    detail: str
    source: str


def of_row(row: Model, targets: Sequence[str], reader: Any) -> list[Happened]:
    """The newest MOST, newest first. The audit log is shown to those who may look at it."""
    found = _in_admin(row)
    if reader.has_perm("accounts.view_auditentry"):
        found += _in_audit(targets)
    return sorted(found, key=lambda entry: entry.at, reverse=True)[:MOST]


def _in_admin(row: Model) -> list[Happened]:
    entries = LogEntry.objects.filter(object_id=str(row.pk), content_type=get_content_type_for_model(row))
    return [
        Happened(entry.action_time, str(entry.user), "Admin page", entry.get_change_message(), "admin")
        for entry in entries.select_related("user").order_by("-action_time")[:MOST]
    ]


def _in_audit(targets: Sequence[str]) -> list[Happened]:
    entries = apps.get_model("accounts", "AuditEntry")._default_manager.filter(target__in=targets).order_by("-at")
    return [Happened(entry.at, entry.actor_name, entry.action, _words(entry.data), "audit") for entry in entries[:MOST]]


def _words(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items())
