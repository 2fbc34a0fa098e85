"""Every address of /accounts/notifications/."""

from accounts import news_views

app_name = "notifications"
urlpatterns = [*news_views.urlpatterns]
