"""Every address of /reservations/."""

from reservations.views import booking, deeds, detail, listing, volumes, waiting

app_name = "reservations"
urlpatterns = [
    *listing.urlpatterns,
    *booking.urlpatterns,
    *detail.urlpatterns,
    *deeds.urlpatterns,
    *volumes.urlpatterns,
    *waiting.urlpatterns,
]
