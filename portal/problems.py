"""Errors of the API as application/problem+json (RFC 9457), with a `code` for programs."""

import json
from datetime import datetime
from typing import Any

from django.http import HttpResponse
from ninja import Schema

from portal.tracing import request_id

MEDIA_TYPE = "application/problem+json"


class Problem(Schema):
    """An error: `code` for programs, `detail` for people, `request_id` for whoever looks into the logs."""

    status: int
    code: str
    detail: str
    next_slot: datetime | None = None
    errors: dict[str, str] | None = None
    request_id: str | None = None


def problem(status: int, code: str, detail: str, **more: Any) -> HttpResponse:
    """The answer that says so."""
    body = {"status": status, "code": code, "detail": detail, **more}
    if known := request_id():
        body["request_id"] = known
    return HttpResponse(json.dumps(body, default=_iso), status=status, content_type=MEDIA_TYPE)


def _iso(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    raise TypeError(f"{value!r} has no JSON form")
