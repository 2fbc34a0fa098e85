"""Every address of /monitor/."""

from monitoring.views import fleet, money

app_name = "monitor"
urlpatterns = [*fleet.urlpatterns, *money.urlpatterns]
