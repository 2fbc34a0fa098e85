"""The doors: what is let in, and what every answer carries. docs/security.md says why."""

from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port
from django.shortcuts import render

from portal.problems import MEDIA_TYPE, problem

GetResponse = Callable[[HttpRequest], HttpResponse]


def _live_origin() -> str:
    """The process that tells of changes, where it is not found below the portal's own address."""
    address = urlsplit(settings.BERTH_LIVE_URL)
    return f" {address.scheme}://{address.netloc}" if address.netloc else ""


# No inline script, no inline style and nothing from elsewhere, so there is no nonce either. `data:` is the CSS
# framework's arrows and the QR code of a log-in app.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "font-src 'self'",
        f"connect-src 'self'{_live_origin()}",
        "manifest-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "object-src 'none'",
        "base-uri 'none'",
    )
)
# Passkeys and the clipboard are ours; the rest is nobody's.
PERMISSIONS_POLICY = ", ".join(
    [f"{feature}=()" for feature in ("camera", "display-capture", "geolocation", "microphone", "payment", "usb")]
    + [f"{feature}=(self)" for feature in ("clipboard-write", "publickey-credentials-create")]
    + ["publickey-credentials-get=(self)"]
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Permissions-Policy": PERMISSIONS_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # What a browser may keep is a file of ours, which says so itself (WhiteNoise); a page is somebody's.
    "Cache-Control": "private, no-store",
}
LONGEST_PORT = len("65535")
ASKED_BY_MACHINES = {"/healthz", "/readyz", "/metrics"}
CODES = {
    400: "bad_request",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    429: "too_many_requests",
    500: "internal",
    503: "unavailable",
}
SENTENCES = {
    403: "This is not allowed.",
    404: "There is no such address in this API.",
    413: "The body is too large; a booking has a few hundred bytes.",
    429: "Too many requests; try again later.",
    500: "Something went wrong on our side; it was logged.",
    503: "The portal does not answer now; try again later.",
}


class HeadersMiddleware:
    """Security headers on every answer, errors and files included. The outermost of all."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response


class ProblemMiddleware:
    """Errors below /api/v1/ that did not come from an operation are problem+json, too: 404, 405, 413, a bad host."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        status = response.status_code
        if status < 400 or not request.path.startswith("/api/v1/") or response["Content-Type"] == MEDIA_TYPE:
            return response
        detail = SENTENCES.get(status, "The request cannot be answered.")
        if status == 405:
            detail = f"{request.method} is not possible here; {response['Allow']} is."
        answer = problem(status, CODES.get(status, "error"), detail)
        for name in ("Allow", "Retry-After"):
            if name in response:
                answer[name] = response[name]
        return answer


class IntakeMiddleware:
    """What is let in: a Host with our port, a body of a form's size, and HEAD wherever GET is."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path not in ASKED_BY_MACHINES:  # at any address of this machine; they hold no links
            check_port(request.get_host())
        if _length(request) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:  # before anything reads it
            return render(request, "413.html", status=413)
        if request.method != "HEAD":
            return self.get_response(request)
        request.method = "GET"
        response = self.get_response(request)
        request.method = "HEAD"
        if not response.streaming:
            response.headers.setdefault("Content-Length", str(len(response.content)))
            response.content = b""
        return response


def check_port(host: str) -> None:
    """Raises DisallowedHost for our name with a port that is not the portal's.

    ALLOWED_HOSTS looks at the name only, and mails hold links with the Host of the request. When the gateway's public
    address is the portal's, a port may be a customer's container, which must not get the link of a new password.
    """
    name, port = split_domain_port(host)
    base = urlsplit(settings.BERTH_BASE_URL)
    usual = {"http": 80, "https": 443}[base.scheme]
    if not port or name in {"localhost", "127.0.0.1", "[::1]"}:
        return
    if len(port) > LONGEST_PORT or int(port) != (base.port or usual):  # int() takes no 5000 digits
        raise DisallowedHost(f"{host} has another port than {settings.BERTH_BASE_URL}")


def _length(request: HttpRequest) -> int:
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0
