"""/metrics: what Prometheus asks the portal for, and who may ask."""

import hmac
import ipaddress

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from portal.metrics import processes
from portal.metrics.database import DatabaseCollector

# Loopback and the addresses that nobody has on the internet (RFC 1918, RFC 4193).
OURS = [
    ipaddress.ip_network(net)
    for net in ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
]


@require_GET
def metrics(request: HttpRequest) -> HttpResponse:
    """All figures, in Prometheus' text format; 401 without the token, 403 from elsewhere where there is no token."""
    if settings.BERTH_METRICS_TOKEN:
        if not has_token(request.headers.get("Authorization", "")):
            answer = HttpResponse("A bearer token is needed: BERTH_METRICS_TOKEN.\n", "text/plain", status=401)
            answer["WWW-Authenticate"] = "Bearer"
            return answer
    elif not is_near(request):
        sentence = "Only this network may ask. BERTH_METRICS_TOKEN lets others ask with a token.\n"
        return HttpResponse(sentence, "text/plain", status=403)
    return HttpResponse(exposition(), CONTENT_TYPE_PLAIN_0_0_4)


def exposition() -> bytes:
    registry = CollectorRegistry()
    registry.register(DatabaseCollector())
    return generate_latest(registry) + generate_latest(processes.registry())


def has_token(header: str) -> bool:
    """Whether the header is `Bearer` and the token; compared in constant time."""
    scheme, _, token = header.partition(" ")
    right = hmac.compare_digest(token.strip().encode(), settings.BERTH_METRICS_TOKEN.encode())
    return scheme.lower() == "bearer" and right


def is_near(request: HttpRequest) -> bool:
    """Whether who asks is on this machine or in a private network.

    Behind proxies that is the address that the outermost of ours saw. A proxy that the settings do not know of hides
    who asks, so that nobody is near.
    """
    hops = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",") if hop.strip()]
    proxies = settings.TRUSTED_PROXIES
    if not hops:  # straight to this port, as Prometheus on this machine does
        address = request.META.get("REMOTE_ADDR", "")
    elif 0 < proxies <= len(hops):
        address = hops[-proxies]
    else:
        return False
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    found = getattr(found, "ipv4_mapped", None) or found
    return any(found in net for net in OURS)
