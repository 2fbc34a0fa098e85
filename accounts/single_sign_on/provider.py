"""Speaks with the provider: leads there, takes the answer, believes it only when it is proven.

As allauth's, except that the ID token's signature and nonce are always checked, that the issuer must be the one in the
settings, that a provider which is away or answers nonsense leads to a page that says so, and that nobody can add to
what is asked for by the address. PKCE is always on.
"""

import hmac
from hashlib import sha256
from typing import Any

from allauth.socialaccount.adapter import get_adapter
from allauth.socialaccount.helpers import render_authentication_error
from allauth.socialaccount.models import SocialToken
from allauth.socialaccount.providers.base import Provider
from allauth.socialaccount.providers.base.constants import AuthProcess
from allauth.socialaccount.providers.oauth2.utils import generate_code_challenge
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView, OAuth2LoginView
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods
from requests import RequestException

from accounts.single_sign_on import rules, tokens
from accounts.single_sign_on.tokens import Untrue

NEEDED = ("authorization_endpoint", "token_endpoint", "jwks_uri")
KEPT = ("sub", "preferred_username", "name", "given_name", "family_name", "email", "email_verified")


class Speaker(OpenIDConnectOAuth2Adapter):  # type: ignore[misc]  # allauth has no types
    """What is asked of the provider, and whether its answers are believed."""

    @property
    def openid_config(self) -> dict[str, Any]:
        """What it says of itself. Raises Untrue and RequestException."""
        if not hasattr(self, "_found"):
            self._found = self._ask(f"{settings.BERTH_OIDC_ISSUER.rstrip('/')}/.well-known/openid-configuration")
            if self._found.get("issuer") != settings.BERTH_OIDC_ISSUER:
                raise Untrue(f"it calls itself {str(self._found.get('issuer'))[:200]!r}, not as BERTH_OIDC_ISSUER says")
            if missing := [name for name in NEEDED if not isinstance(self._found.get(name), str)]:
                raise Untrue(f"it does not tell its {missing[0]}")
        return self._found

    def get_callback_url(self, request: HttpRequest, app: Any) -> str:
        return f"{settings.BERTH_BASE_URL}{reverse('openid_connect_callback')}"

    def complete_login(self, request: HttpRequest, app: Any, token: SocialToken, **more: Any) -> Any:
        claims = tokens.verify(
            more["response"].get("id_token"),
            keys=self._ask(self.openid_config["jwks_uri"]),
            issuer=settings.BERTH_OIDC_ISSUER,
            client_id=app.client_id,
            nonce=nonce_of(request.GET["state"]),
        )
        told = claims
        if where := self.openid_config.get("userinfo_endpoint"):
            more_of_it = self._ask(where, {"Authorization": f"Bearer {token.token}"})
            if more_of_it.get("sub") != claims["sub"]:
                raise Untrue("it tells of somebody else than the ID token")
            told = rules.in_one(claims, more_of_it)
        return self.get_provider().sociallogin_from_response(request, told)

    def _ask(self, address: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
        with get_adapter().get_requests_session() as session:
            answer = session.get(address, headers=headers)
        answer.raise_for_status()
        found = answer.json()
        if not isinstance(found, dict):
            raise Untrue("its answer is no JSON object")
        return found


class BerthProvider(OpenIDConnectProvider):  # type: ignore[misc]  # allauth has no types
    oauth2_adapter_class = Speaker

    def get_login_url(self, request: HttpRequest, **kwargs: Any) -> str:
        return reverse("openid_connect_login")

    def get_callback_url(self) -> str:
        return reverse("openid_connect_callback")

    def get_scope(self) -> list[str]:
        return list(settings.BERTH_OIDC_SCOPES)

    def get_redirect_from_request_kwargs(self, request: HttpRequest) -> dict[str, Any]:
        """Only where to go afterwards, and whether an account is to be connected, may be asked for."""
        found: dict[str, Any] = Provider.get_redirect_from_request_kwargs(self, request)
        connect = found["process"] == AuthProcess.CONNECT and request.user.is_authenticated
        found["process"] = AuthProcess.CONNECT if connect else AuthProcess.LOGIN
        return found

    def redirect(
        self, request: HttpRequest, process: str, next_url: str | None = None, data: Any = None, **more: Any
    ) -> HttpResponse:
        """A page that leads on: the provider may send on to addresses that a form of ours must not lead to (CSP)."""
        speaker = self.get_oauth2_adapter(request)
        proof = generate_code_challenge()
        verifier = proof.pop("code_verifier")
        try:
            client = speaker.get_client(request, self.app)
            client.state = self.stash_redirect_state(request, process, next_url, data, pkce_code_verifier=verifier)
            asked = {**proof, "nonce": nonce_of(client.state)}
            where = client.get_redirect_url(speaker.openid_config["authorization_endpoint"], self.get_scope(), asked)
        except (RequestException, Untrue) as problem:
            answer: HttpResponse = render_authentication_error(request, self, exception=problem)
            return answer
        return render(request, "socialaccount/to_provider.html", {"address": where, "name": self.app.name})

    def extract_uid(self, data: dict[str, Any]) -> str:
        return str(data["sub"])

    def extract_extra_data(self, data: dict[str, Any]) -> dict[str, Any]:
        """What is kept: who it is, and the groups as they were at the last log-in."""
        kept = {name: data[name] for name in KEPT if isinstance(data.get(name), str | bool)}
        return {**kept, "groups": rules.groups_in(data, settings.BERTH_OIDC_GROUPS_CLAIM)}

    def extract_email_addresses(self, data: dict[str, Any]) -> list[Any]:
        """Some providers write the word true where the standard has the value."""
        data = {**data, "email_verified": data.get("email_verified") in (True, "true")}
        found: list[Any] = super().extract_email_addresses(data)
        return found


provider_classes = [BerthProvider]


def nonce_of(state: str) -> str:
    """Each log-in has its own: made from the state, which only this session holds, and good once as that is."""
    return hmac.new(settings.SECRET_KEY.encode(), f"oidc nonce {state}".encode(), sha256).hexdigest()


@never_cache
@require_http_methods(["GET", "POST"])
def login(request: HttpRequest) -> HttpResponse:
    """GET asks, POST leads to the provider."""
    return _view(OAuth2LoginView, request)


@never_cache
@require_GET
def callback(request: HttpRequest) -> HttpResponse:
    """Where the provider sends people back to, with a code."""
    return _view(OAuth2CallbackView, request)


def _view(view: Any, request: HttpRequest) -> HttpResponse:
    if not settings.BERTH_OIDC_ISSUER:
        raise Http404
    speaker = Speaker(request, settings.BERTH_OIDC_ISSUER)
    try:
        answer: HttpResponse = view.adapter_view(speaker)(request)
    except (RequestException, Untrue) as problem:  # allauth asks who the provider is before it catches anything
        answer = render_authentication_error(request, speaker.get_provider(), exception=problem)
    return answer
