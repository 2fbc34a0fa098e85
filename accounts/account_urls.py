from django.urls import path

from accounts import closing_views, key_views, profile_views

app_name = "account"
urlpatterns = [
    path("", profile_views.profile, name="profile"),
    path("dates/", profile_views.dates, name="dates"),
    path("delete/", closing_views.delete, name="delete"),
    path("keys/", key_views.index, name="keys"),
    path("keys/new/", key_views.new, name="key-new"),
    path("keys/<int:pk>/remove/", key_views.remove, name="key-remove"),
]
