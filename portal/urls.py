"""Every address of the portal."""

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.urls import include, path

from portal import health, views
from portal.api import api
from portal.metrics import page

# One log-in for everybody: the admin's own would know neither the rate limits nor second factors.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

handler403 = views.forbidden

urlpatterns = [
    path("", views.home, name="home"),
    path("accounts/", include("accounts.account_urls")),
    path("accounts/", include("allauth.account.urls")),
    path("accounts/mfa/", include("allauth.mfa.urls")),
    path("accounts/sessions/", include("allauth.usersessions.urls")),
    path("accounts/sso/", include("accounts.sso_urls")),
    path("accounts/tokens/", include("accounts.urls")),
    path("workspaces/", include("portal.workspace_urls")),
    path("accounts/notifications/", include("accounts.news_urls")),
    path("reservations/", include("reservations.urls")),
    path("help/", include("reservations.views.help")),
    path("billing/", include("billing.urls")),
    path("monitor/", include("monitoring.urls")),
    path("api/v1/", api.urls),
    path("api/docs", views.api_docs, name="api-docs"),
    path("admin/", admin.site.urls),
    path("favicon.ico", views.favicon),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", page.metrics, name="metrics"),
]
