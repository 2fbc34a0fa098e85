"""Every address of /monitor/."""

from monitoring.views import container, containers, fleet, incidents, money, node

app_name = "monitor"
urlpatterns = [
    *fleet.urlpatterns,
    *node.urlpatterns,
    *containers.urlpatterns,
    *container.urlpatterns,
    *incidents.urlpatterns,
    *money.urlpatterns,
]
