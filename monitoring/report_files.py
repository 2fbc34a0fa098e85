"""The health report as a file: HTML that needs nothing else and prints well, CSV, or JSON."""

import json
from dataclasses import dataclass
from datetime import UTC

from django.conf import settings
from django.template.loader import render_to_string

from billing import exports
from monitoring import report_tables, reports
from monitoring.reports import Report

FORMATS = {"html": "text/html", "csv": "text/csv", "json": "application/json"}


@dataclass(frozen=True, slots=True)
class File:
    name: str
    kind: str
    text: str


def make(found: Report, kind: str) -> File:
    """`kind` is one of FORMATS."""
    text = {"html": as_html, "csv": _as_csv, "json": _as_json}[kind](found)
    since, until = found.since.astimezone(UTC), found.until.astimezone(UTC)
    return File(f"health-{since:%Y%m%dT%H%M}-{until:%Y%m%dT%H%M}Z.{kind}", FORMATS[kind], text)


def as_html(found: Report) -> str:
    return render_to_string("monitor/report_file.html", context(found))


def as_text(found: Report) -> str:
    """The head of it, for a mail."""
    return render_to_string("monitor/email/report.txt", context(found))


def context(found: Report) -> dict[str, object]:
    return {
        "report": found,
        "headlines": report_tables.headlines(found),
        "sections": report_tables.sections(found),
        "zone": report_tables.zone(),
        "base_url": settings.BERTH_BASE_URL,
    }


def _as_csv(found: Report) -> str:
    return "".join(exports.text_of(report_tables.as_table(found)))


def _as_json(found: Report) -> str:
    return json.dumps(reports.as_json(found), indent=2, ensure_ascii=False) + "\n"
