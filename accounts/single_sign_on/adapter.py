"""Whose account a log-in at the provider opens: the one of before, one with the same confirmed address, or a new one.

Nobody gets into another's account by an address that either side has not confirmed.
"""

import logging
import re
import unicodedata
from typing import Any

from allauth.account.models import EmailAddress
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp, SocialLogin
from allauth.socialaccount.providers.base.constants import AuthError, AuthProcess
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.http import HttpRequest
from django.shortcuts import render
from requests import RequestException

from accounts import audit
from accounts.actions import open_personal_workspace
from accounts.models import User
from accounts.single_sign_on.tokens import Untrue

logger = logging.getLogger(__name__)
LONGEST_USERNAME = 40


class SocialAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]  # allauth has no types
    error_messages = DefaultSocialAccountAdapter.error_messages | {
        "email_taken": "Another account uses this e-mail address. Log in to it first; then connect %s there.",
        "no_password": "Set a password first: without one nothing else opens your account.",
        "no_verified_email": "Confirm an e-mail address first: without one you cannot set a password again.",
    }

    def list_apps(self, request: HttpRequest, provider: str | None = None, client_id: str | None = None) -> list[Any]:
        """The one provider of the settings. Rows of the database are no providers."""
        issuer = settings.BERTH_OIDC_ISSUER
        if not issuer or provider not in {None, "openid_connect", issuer}:
            return []
        app = SocialApp(
            provider="openid_connect",
            provider_id=issuer,  # with its accounts, so that another provider's subjects are other people
            name=settings.BERTH_OIDC_NAME,
            client_id=settings.BERTH_OIDC_CLIENT_ID,
            secret=settings.BERTH_OIDC_CLIENT_SECRET,
            settings={
                "server_url": issuer,
                "email_authentication": True,
                "verified_email": settings.BERTH_OIDC_TRUST_EMAIL,
            },
        )
        return [app] if client_id in {None, app.client_id} else []

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return True  # whom the provider knows is let in, also where nobody else can sign up

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Refuse what would mix two people up."""
        if sociallogin.state.get("process") == AuthProcess.CONNECT:
            return
        by_address = getattr(sociallogin, "_did_authenticate_by_email", None)
        if sociallogin.is_existing and not by_address:
            return
        if by_address:
            if EmailAddress.objects.filter(user=sociallogin.user, email__iexact=by_address, verified=True).exists():
                return
            self._refuse(request, by_address, "unconfirmed")
        for address in sociallogin.email_addresses:
            if _users_with(address.email).exists():
                self._refuse(request, address.email, "taken")

    def _refuse(self, request: HttpRequest, address: str, why: str) -> None:
        logger.warning(
            "single sign-on: refused, since another account has the address that the provider tells: %s", why
        )
        context = {"why": why, "address": address, "name": settings.BERTH_OIDC_NAME}
        raise ImmediateHttpResponse(render(request, "socialaccount/refused.html", context, status=403))

    def on_authentication_error(
        self,
        request: HttpRequest,
        provider: Any,
        error: Any = None,
        exception: Exception | None = None,
        extra_context: dict[str, Any] | None = None,
    ) -> None:
        """The reason goes into the log, and a sentence onto the page."""
        if error == AuthError.CANCELLED:
            return
        name = settings.BERTH_OIDC_NAME
        told = request.GET.get("error", "")[:100]
        if isinstance(exception, RequestException):
            why = f"{name} does not answer as it should. Try again in a moment."
        elif isinstance(exception, Untrue):
            why = f"The answer of {name} cannot be believed: {exception}."
        elif exception is None and extra_context and "state_id" in extra_context:
            why = "This log-in took too long, was used already, or began in another browser. Begin again."
        elif exception is None and told:
            why = f"{name} refused: {told}."
        else:
            why = f"{name} gave an answer that could not be used."
        logger.warning("single sign-on failed: %s %s", why, f"({str(exception)[:300]!r})" if exception else "")
        if extra_context is not None:
            extra_context["why"] = why

    def populate_user(self, request: HttpRequest, sociallogin: SocialLogin, data: dict[str, Any]) -> User:
        user: User = super().populate_user(request, sociallogin, {key: _text(value) for key, value in data.items()})
        user.username = free_username(_text(data.get("username")) or user.email.partition("@")[0])
        user.first_name, user.last_name = user.first_name[:150], user.last_name[:150]
        return user

    def save_user(self, request: HttpRequest, sociallogin: SocialLogin, form: Any = None) -> User:
        """A new account with its personal workspace; never an admin."""
        user: User = sociallogin.user
        user.is_staff = user.is_superuser = False
        for _ in range(5):
            try:
                with transaction.atomic():
                    super().save_user(request, sociallogin, form)
                    open_personal_workspace(user=user, by=user)
                    audit.record(
                        by=user,
                        action="user.single_sign_on",
                        target=f"user:{user.pk}",
                        issuer=settings.BERTH_OIDC_ISSUER,
                        subject=sociallogin.account.uid,
                    )
            except IntegrityError:  # somebody took the name a moment ago
                if form is not None:
                    raise
                user.pk, user.username = None, free_username(user.username)
            else:
                return user
        raise RuntimeError("no free user name was found")


def free_username(wished: str) -> str:
    """The wished name as a user name can be, or one with a number when somebody has it."""
    plain = unicodedata.normalize("NFKD", wished).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("._-")[: LONGEST_USERNAME - 6]
    if len(plain) < 2 or plain.lower().startswith("deleted-"):
        plain = "user"
    taken = set(User.objects.filter(username__istartswith=plain).values_list("username", flat=True))
    taken = {name.lower() for name in taken}
    if plain.lower() not in taken:
        return plain
    return next(name for name in (f"{plain}{number}" for number in range(2, 99_999)) if name.lower() not in taken)


def _users_with(address: str) -> Any:
    return User.objects.filter(Q(email__iexact=address) | Q(emailaddress__email__iexact=address))


def _text(value: Any) -> Any:
    """What a provider calls somebody, without what cannot be kept or seen."""
    if not isinstance(value, str):
        return ""
    return "".join(character for character in value if unicodedata.category(character)[0] != "C")[:254]
