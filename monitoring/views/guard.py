"""Who may look, and who may act: staff look, and each deed asks for the permission that the admin pages ask for."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, cast

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponseBase]


def for_staff(view: View[P]) -> View[P]:
    """Anonymous visitors are asked to log in; customers are told that the page does not exist."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        return _answer_to_strangers(request) or view(request, *args, **kwargs)

    return cast(View[P], guarded)


def allowed_to(permission: str, *, hide: bool = False) -> Callable[[View[P]], View[P]]:
    """Staff with this permission ("compute.change_node"). Other staff are refused, or told 404 with `hide`."""

    def decorate(view: View[P]) -> View[P]:
        @wraps(view)
        def guarded(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
            if answer := _answer_to_strangers(request):
                return answer
            if not request.user.has_perm(permission):
                if hide:
                    raise Http404
                raise PermissionDenied(f"This needs the permission {permission}.")
            return view(request, *args, **kwargs)

        return cast(View[P], guarded)

    return decorate


def _answer_to_strangers(request: HttpRequest) -> HttpResponseBase | None:
    """None for staff. Raises Http404 for customers."""
    if not request.user.is_authenticated:
        return redirect_to_login(request.get_full_path())
    if not request.user.is_staff:
        raise Http404
    return None
