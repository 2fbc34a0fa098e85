"""The JSON API under /api/v1: bearer tokens, and errors as problem+json (RFC 9457) with a `code`."""

import logging
from datetime import timedelta
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_GET
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.openapi.schema import OpenAPISchema
from ninja.security import HttpBearer

from accounts import limits
from accounts.models import ApiToken, Scope, User
from accounts.permissions import NotAllowed
from compute.capacity import NoCapacity
from portal.api_availability import router as availability_router
from portal.api_billing import router as billing_router
from portal.api_catalogue import router as catalogue_router
from portal.api_notifications import router as notifications_router
from portal.api_quotes import router as quotes_router
from portal.api_reservations import router as reservations_router
from portal.api_volumes import router as volumes_router
from portal.api_waiting import router as waiting_router
from portal.api_workspaces import router as workspaces_router
from portal.problems import MEDIA_TYPE, problem
from reservations import actions, waiting
from reservations.access import CannotRestrict
from reservations.extending import CannotExtend
from reservations.restarting import CannotRestart
from reservations.shortening import CannotShorten
from reservations.transitions import Stale

logger = logging.getLogger(__name__)
TOUCH_EVERY = timedelta(minutes=1)


REFUSALS = {  # that any operation may give, and that none needs to name
    "401": "No valid token",
    "403": "The token lacks the scope, or the role in the workspace does not suffice",
    "429": "Too many wrong tokens from this address",
    "500": "A fault of ours",
    "503": "The portal's database does not answer",
}
OF_BODIES = {"400": "The body is no JSON", "413": "The body is too large"}
READS = frozenset({"GET", "HEAD", "OPTIONS"})
QUESTIONS = frozenset({"/api/v1/quotes"})  # a POST, for its body, that writes and holds nothing


class MissingScope(Exception):
    """The token is good, but not for this."""

    def __init__(self, scope: Scope, token: ApiToken) -> None:
        super().__init__(f"This needs a token with the scope {scope}; yours may only {token.may}.")
        self.scope = scope


class GuessedTooOften(Exception):
    """Too many wrong tokens came from this address."""


class BearerToken(HttpBearer):
    """`Authorization: Bearer berth_…`; users make tokens under Account, API tokens.

    A token has scopes: `read` is needed for every GET and for quotes, `write` for everything else.
    """

    def authenticate(self, request: HttpRequest, token: str) -> User | None:
        if limits.guessed_too_often(request) and not limits.is_known(request, token):
            raise GuessedTooOften
        now = timezone.now()
        found = ApiToken.objects.find(token, now)
        if found is None:
            limits.note_wrong_token(request, token)
            return None
        limits.note_good_token(request, token)
        asks = request.method in READS or request.path in QUESTIONS
        needed = Scope.READ if asks else Scope.WRITE
        if needed not in found.scopes:
            raise MissingScope(needed, found)
        if found.last_used_at is None or now - found.last_used_at > TOUCH_EVERY:
            ApiToken.objects.filter(pk=found.pk).update(last_used_at=now)
        request.user = found.user
        request.may_read = Scope.READ in found.scopes  # type: ignore[attr-defined]  # for what tells credentials
        return found.user


class Api(NinjaAPI):
    """An API whose document tells of its errors as they are sent."""

    def get_openapi_schema(self, **options: Any) -> OpenAPISchema:
        document = super().get_openapi_schema(**options)
        for operation in (found for methods in document["paths"].values() for found in methods.values()):
            responses = {str(status): answer for status, answer in operation["responses"].items()}
            for status, text in (REFUSALS | OF_BODIES if "requestBody" in operation else REFUSALS).items():
                responses.setdefault(status, {"description": text})
            for status, answer in responses.items():
                if int(status) >= 400:
                    answer["content"] = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
            operation["responses"] = responses
        return document


api = Api(
    title="Berth",
    version="1",
    description="Book containers and reach them at one public address.",
    urls_namespace="api-v1",
    docs_url=None,
    docs_decorator=require_GET,
    auth=BearerToken(),
)
api.add_router("/reservations", reservations_router)
api.add_router("/volumes", volumes_router)
api.add_router("/waiting", waiting_router)
api.add_router("/workspaces", workspaces_router)
api.add_router("/billing", billing_router)
api.add_router("/quotes", quotes_router)
api.add_router("/notifications", notifications_router)
api.add_router("/availability", availability_router)
api.add_router("", catalogue_router)


@api.exception_handler(ValidationError)
def _invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    errors: dict[str, str] = {}
    for found in error.errors:
        place = [str(part) for part in found["loc"] if part not in {"body", "payload", "query", "path"}]
        errors[".".join(place) or "body"] = str(found["msg"]).removeprefix("Value error, ")
    detail = " ".join(f"{place}: {sentence}." for place, sentence in errors.items())
    return problem(422, "invalid", detail, errors=errors)


@api.exception_handler(actions.InvalidBooking)
def _invalid_booking(request: HttpRequest, error: actions.InvalidBooking) -> HttpResponse:
    errors = {"hours" if field == "duration" else field: text for field, text in error.problems.items()}
    return problem(422, error.code, str(error), errors=errors)


@api.exception_handler(NoCapacity)
def _no_capacity(request: HttpRequest, error: NoCapacity) -> HttpResponse:
    return problem(409, "no_capacity", str(error), next_slot=error.next_slot)


Conflict = (
    actions.OverQuota
    | actions.CannotAfford
    | actions.VolumeInUse
    | CannotExtend
    | CannotRestrict
    | CannotShorten
    | CannotRestart
    | waiting.CannotJoin
    | waiting.OfferOver
)


@api.exception_handler(actions.OverQuota)
@api.exception_handler(actions.CannotAfford)
@api.exception_handler(actions.VolumeInUse)
@api.exception_handler(CannotExtend)
@api.exception_handler(CannotRestrict)
@api.exception_handler(waiting.CannotJoin)
@api.exception_handler(waiting.OfferOver)
@api.exception_handler(CannotShorten)
@api.exception_handler(CannotRestart)
def _conflict(request: HttpRequest, error: Conflict) -> HttpResponse:
    return problem(409, error.code, str(error))


@api.exception_handler(actions.VolumeTaken)
def _volume_taken(request: HttpRequest, error: actions.VolumeTaken) -> HttpResponse:
    return problem(409, error.code, str(error), next_slot=error.next_slot)


@api.exception_handler(Stale)
def _moving(request: HttpRequest, error: Stale) -> HttpResponse:
    return problem(409, "moving", "The reservation is moving just now, and nothing was changed: try it again.")


@api.exception_handler(actions.KeyReused)
def _key_reused(request: HttpRequest, error: actions.KeyReused) -> HttpResponse:
    return problem(422, error.code, str(error))


@api.exception_handler(AuthenticationError)
def _unauthorized(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    answer = problem(401, "unauthorized", "A valid API token is needed: Authorization: Bearer berth_…")
    answer["WWW-Authenticate"] = "Bearer"
    return answer


@api.exception_handler(MissingScope)
def _missing_scope(request: HttpRequest, error: MissingScope) -> HttpResponse:
    answer = problem(403, "scope", str(error), scope=str(error.scope))
    answer["WWW-Authenticate"] = f'Bearer error="insufficient_scope", scope="{error.scope}"'
    return answer


@api.exception_handler(GuessedTooOften)
def _guessed_too_often(request: HttpRequest, error: GuessedTooOften) -> HttpResponse:
    detail = "Too many wrong API tokens came from your address. Wait a minute and try again."
    answer = problem(429, "too_many_wrong_tokens", detail)
    answer["Retry-After"] = str(limits.WINDOW_S)
    return answer


@api.exception_handler(Http404)
def _not_found(request: HttpRequest, error: Http404) -> HttpResponse:
    return problem(404, "not_found", "There is no such thing, or it is not yours.")


@api.exception_handler(NotAllowed)
def _not_allowed(request: HttpRequest, error: NotAllowed) -> HttpResponse:
    return problem(403, error.code, str(error))


@api.exception_handler(PermissionDenied)
def _forbidden(request: HttpRequest, error: PermissionDenied) -> HttpResponse:
    """As when a proxy does not say for whom it asks, so that guesses at tokens could not be counted."""
    logger.warning("%s %s is refused: %s", request.method, request.path, error)
    return problem(403, "forbidden", "This is not allowed.")


@api.exception_handler(RequestDataTooBig)
def _too_large(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
    return problem(413, "too_large", "The body is too large; a booking has a few hundred bytes.")


@api.exception_handler(HttpError)
def _http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
    if isinstance(error.__context__, RequestDataTooBig):
        return _too_large(request, error.__context__)
    return problem(error.status_code, "bad_request", str(error))


@api.exception_handler(Exception)
def _fault(request: HttpRequest, error: Exception) -> HttpResponse:
    """A fault of ours: logged whole, and said without its details."""
    logger.exception("%s %s failed", request.method, request.path, exc_info=error)
    return problem(500, "internal", "Something went wrong on our side; it was logged.")


@api.exception_handler(OperationalError)
def _unavailable(request: HttpRequest, error: OperationalError) -> HttpResponse:
    logger.error("%s %s could not ask the database: %s", request.method, request.path, error)
    return problem(503, "unavailable", "The portal's database does not answer; nothing was changed.")
