"""Staff reach the machine room only with a second factor. This is the one place that decides it."""

from collections.abc import Callable
from typing import Any

from allauth.account.authentication import get_authentication_records
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import urlencode

from accounts.models import User

SET_UP = "Staff need a second factor before they can open that page. Set one up here: an app, a passkey or a key."
CONFIRM = "Staff confirm with their second factor before they can open that page."


class StaffSecondFactorMiddleware:
    """Guards every view whose namespace is in BERTH_STAFF_NAMESPACES, while BERTH_STAFF_MFA is on.

    Staff without a second factor are led to setting one up; staff whose session was opened without it are asked for
    it. Who is not staff goes on to the view, which has its own answer for them.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponse], args: Any, kwargs: Any
    ) -> HttpResponse | None:
        match = request.resolver_match
        if not settings.BERTH_STAFF_MFA or match is None:
            return None
        guarded = next((name for name in match.namespaces if name in settings.BERTH_STAFF_NAMESPACES), None)
        user = request.user
        if guarded is None or not isinstance(user, User) or not user.is_staff:
            return None
        back = request.get_full_path() if request.method == "GET" else reverse(f"{guarded}:index")
        factors = dict(Authenticator.objects.filter(user=user).values_list("pk", "type"))
        kinds = set(factors.values()) - {Authenticator.Type.RECOVERY_CODES}
        if not kinds:
            messages.warning(request, SET_UP)
            return HttpResponseRedirect(reverse("mfa_index"))
        if not _proven(request, user, factors):
            messages.warning(request, CONFIRM)
            first = "mfa_reauthenticate" if Authenticator.Type.TOTP in kinds else "mfa_reauthenticate_webauthn"
            return HttpResponseRedirect(f"{reverse(first)}?{urlencode({'next': back})}")
        return None


def _proven(request: HttpRequest, user: User, factors: dict[int, str]) -> bool:
    """Whether this session was opened or confirmed with a factor that the user still has."""
    records = get_authentication_records(request, user)
    return any(record.get("method") == "mfa" and record.get("id") in factors for record in records)
