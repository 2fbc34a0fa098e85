"""Single sign-on. Allauth finds its own pages by their names; its page for errors has no address of its own here."""

from allauth.socialaccount import views
from django.urls import path

from accounts.single_sign_on import provider

urlpatterns = [
    path("", views.connections, name="socialaccount_connections"),
    path("start/", provider.login, name="openid_connect_login"),
    path("callback/", provider.callback, name="openid_connect_callback"),
    path("cancelled/", views.login_cancelled, name="socialaccount_login_cancelled"),
    path("signup/", views.signup, name="socialaccount_signup"),
]
