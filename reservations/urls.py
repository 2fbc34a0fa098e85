"""Every address of /reservations/."""

from reservations.views import (
    access,
    booking,
    bulk,
    calendar,
    charts,
    deeds,
    detail,
    listing,
    logs,
    volumes,
    waiting,
)

app_name = "reservations"
urlpatterns = [
    *listing.urlpatterns,
    *booking.urlpatterns,
    *detail.urlpatterns,
    *access.urlpatterns,
    *charts.urlpatterns,
    *logs.urlpatterns,
    *deeds.urlpatterns,
    *bulk.urlpatterns,
    *calendar.urlpatterns,
    *volumes.urlpatterns,
    *waiting.urlpatterns,
]
