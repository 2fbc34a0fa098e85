from django.urls import path

from reservations import views

app_name = "reservations"
urlpatterns = [
    path("", views.reservation_list, name="list"),
    path("new/", views.new, name="new"),
    path("quote/", views.quote, name="quote"),
    path("<int:pk>/", views.detail, name="detail"),
    path("<int:pk>/state/", views.state, name="state"),
    path("<int:pk>/delete/", views.delete, name="delete"),
    path("<int:pk>/stop/", views.stop, name="stop"),
    path("<int:pk>/start/", views.start, name="start"),
    path("<int:pk>/extend/", views.extend, name="extend"),
    path("volumes/<int:pk>/delete/", views.volume_delete, name="volume-delete"),
]
