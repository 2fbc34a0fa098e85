"""What the monitor's pages say of incidents: their words, their number in the navigation."""

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from monitoring import heartbeats
from monitoring.alerts import incidents
from monitoring.models import Incident

register = template.Library()
TONES = {Incident.Severity.CRITICAL: "red", Incident.Severity.WARNING: "amber", Incident.Severity.INFO: "blue"}


@register.simple_tag
def incident_count() -> int:
    """How many are open: one query."""
    return Incident.objects.open().count()


@register.simple_tag
def watch() -> heartbeats.Watch:
    """Whether anybody looks: one query."""
    return heartbeats.watch(timezone.now())


@register.filter
def incident_title(row: Incident) -> str:
    """As "node1 is down"."""
    return incidents.title(row)


@register.filter
def incident_over(row: Incident) -> str:
    """As "node1 is back"."""
    return incidents.over_title(row)


@register.filter
def severity_tone(severity: str) -> str:
    """The class of its colour."""
    return f"tone-{TONES.get(Incident.Severity(severity), 'grey')}"


@register.filter
def severity_badge(row: Incident) -> SafeString:
    """The word with a coloured dot; grey when it is over."""
    tone = "tone-grey" if row.closed_at else severity_tone(row.severity)
    return format_html('<span class="state {}"><span class="state-dot"></span>{}</span>', tone, row.severity)
