"""Until when the certificates hold: each engine's own, and the portal's as the engines' client. No Django.

An engine whose certificate has run out cannot be reached any more, and with the portal's no engine at all; so both are
watched, and said `WARN` before.
"""

import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from compute.shell import NoAnswer

WARN = timedelta(days=30)
ENGINE_PORT = 2376
TIMEOUT_S = 5.0


def engine_expiry(engine_url: str, tls_dir: Path | None) -> datetime | None:
    """The end of the engine's certificate, verified both ways; None for an engine without TLS.

    Raises NoAnswer when it cannot be had, and also when it is not to be trusted.
    """
    parts = urlsplit(engine_url)
    if parts.scheme != "tcp" or not parts.hostname or tls_dir is None:
        return None
    try:
        context = ssl.create_default_context(cafile=tls_dir / "ca.pem")
        context.load_cert_chain(tls_dir / "cert.pem", tls_dir / "key.pem")
        with (
            socket.create_connection((parts.hostname, parts.port or ENGINE_PORT), timeout=TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=parts.hostname) as secure,
        ):
            certificate = secure.getpeercert() or {}
    except OSError as problem:  # ssl.SSLError is one
        raise NoAnswer(f"{engine_url} showed no certificate that can be trusted: {problem}") from problem
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate["notAfter"])), UTC)


def client_expiry(tls_dir: Path | None) -> datetime | None:
    """The end of the portal's own certificate; None when there is none that can be read."""
    if tls_dir is None:
        return None
    try:
        return x509.load_pem_x509_certificate((tls_dir / "cert.pem").read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return None


def warning(expires_at: datetime | None, now: datetime) -> str:
    """ "expires on 2026-05-04, in 12 days", or "" while there is time."""
    if expires_at is None or expires_at - now > WARN:
        return ""
    if expires_at <= now:
        return f"expired on {expires_at:%Y-%m-%d}"
    return f"expires on {expires_at:%Y-%m-%d}, in {(expires_at - now).days} days"
