"""Every address of /monitor/."""

from monitoring.views import (
    capacity,
    container,
    containers,
    drift,
    events,
    fleet,
    incidents,
    money,
    node,
    report,
    what_if,
)

app_name = "monitor"
urlpatterns = [
    *fleet.urlpatterns,
    *node.urlpatterns,
    *containers.urlpatterns,
    *container.urlpatterns,
    *incidents.urlpatterns,
    *capacity.urlpatterns,
    *drift.urlpatterns,
    *what_if.urlpatterns,
    *events.urlpatterns,
    *report.urlpatterns,
    *money.urlpatterns,
]
