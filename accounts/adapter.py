"""How allauth makes our users, and how it keeps their second factors."""

import base64
import logging
import re
import secrets
from typing import Any
from urllib.parse import urlsplit

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.stagekit import clear_login
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from accounts import sealing
from accounts.actions import open_personal_workspace
from accounts.inviting import HELD_INVITATION
from accounts.models import User
from accounts.single_sign_on import memberships

logger = logging.getLogger(__name__)
PURPOSE = "second factors"


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth has no types
    error_messages = DefaultAccountAdapter.error_messages | dict.fromkeys(
        ("username_password_mismatch", "email_password_mismatch"), "The user name or the password is not correct."
    )

    def save_user(self, request: HttpRequest, user: User, form: Any, commit: bool = True) -> User:
        """A sign-up makes the user and the personal workspace together, and never an admin."""
        user.is_staff = user.is_superuser = False
        with transaction.atomic():
            user = super().save_user(request, user, form, commit)
            if commit:
                open_personal_workspace(user=user, by=user)
        return user

    def get_login_redirect_url(self, request: HttpRequest) -> str:
        """Who followed an invitation's link is led back to it, by way of a sign-up and its confirmation, too."""
        held = request.session.get(HELD_INVITATION)
        if isinstance(held, int):
            return reverse("workspaces:invitation", args=[held])
        return str(super().get_login_redirect_url(request))

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        """Where everybody comes from the provider, nobody signs up here."""
        return not settings.BERTH_OIDC_ONLY

    def pre_login(self, request: HttpRequest, user: User, **more: Any) -> HttpResponse | None:
        """Where everybody comes from the provider, a password or a passkey opens the accounts of admins only."""
        by_provider = "sociallogin" in (more.get("signal_kwargs") or {})
        if settings.BERTH_OIDC_ONLY and not by_provider and not user.is_superuser:
            clear_login(request)
            messages.error(request, f"Accounts are opened by {settings.BERTH_OIDC_NAME} here.")
            return HttpResponseRedirect(reverse("account_login"))
        answer: HttpResponse | None = super().pre_login(request, user, **more)
        return answer

    def post_login(self, request: HttpRequest, user: User, **more: Any) -> HttpResponse:
        """Every step of a log-in is done: workspaces follow the provider's groups."""
        login = (more.get("signal_kwargs") or {}).get("sociallogin")
        if login is not None:
            memberships.follow(user=user, groups=login.account.extra_data.get("groups", []))
        answer: HttpResponse = super().post_login(request, user, **more)
        return answer

    def get_reauthentication_methods(self, user: User) -> list[dict[str, Any]]:
        """As allauth's, in our words."""
        words = {
            "reauthenticate": "Use your password",
            "mfa_reauthenticate": "Use a code",
            "mfa_reauthenticate:webauthn": "Use a passkey or security key",
        }
        methods: list[dict[str, Any]] = super().get_reauthentication_methods(user)
        return [{**method, "description": words.get(method["id"], method["description"])} for method in methods]


class MFAAdapter(DefaultMFAAdapter):  # type: ignore[misc]  # allauth has no types
    """Second factors: their secrets are sealed in the database."""

    error_messages = DefaultMFAAdapter.error_messages | {
        "incorrect_code": "This is not right, or it was used already. An app shows a new code every 30 seconds.",
        "unverified_email": "Confirm your e-mail address first; then you can set up a second factor.",
        "add_email_blocked": "While a second factor is set up, no address can be added. Remove the factor first.",
    }

    def encrypt(self, text: str) -> str:
        return sealing.seal(text, purpose=PURPOSE)

    def decrypt(self, encrypted_text: str) -> str:
        """The secret. One that cannot be read becomes a random one, which nobody's code matches."""
        try:
            return sealing.unseal(encrypted_text, purpose=PURPOSE)
        except sealing.Unreadable:
            logger.error("a second factor cannot be read: SECRET_KEY was changed; manage.py reset_mfa USER helps")
            return base64.b32encode(secrets.token_bytes(20)).decode()

    def get_totp_label(self, user: User) -> str:
        return user.username

    def get_totp_issuer(self) -> str:
        """What the app shows: Berth (berth.example.org)."""
        return f"Berth ({urlsplit(settings.BERTH_BASE_URL).hostname})"

    def build_totp_svg(self, url: str) -> str:
        """The QR code to put into the page as it is: no data address, no XML declaration, sized by the style sheet."""
        svg = super().build_totp_svg(url).partition("<svg")[2]
        head, _, body = svg.partition(">")
        box = re.search(r'viewBox="[^"]+"', head)
        return f'<svg class="qr" {box.group(0) if box else ""} role="img" aria-label="QR code for your app">{body}'

    def generate_authenticator_name(self, user: User, type: Authenticator.Type) -> str:  # noqa: A002  # allauth's name
        count = Authenticator.objects.filter(user_id=user.pk, type=type).count()
        return f"Passkey {count + 1}" if count else "Passkey"
