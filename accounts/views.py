"""A user's API tokens."""

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods

from accounts import actions
from accounts.forms import TokenForm
from accounts.models import ApiToken, User

PAST_SHOWN = 20


class Asked(HttpRequest):
    """A request that login_required let pass."""

    user: User


@login_required
@require_GET
def index(request: Asked) -> HttpResponse:
    tokens = ApiToken.objects.filter(user=request.user).order_by("-created_at")
    live = tokens.live(timezone.now())
    context = {"tokens": live, "past": tokens.exclude(pk__in=live.values("pk"))[:PAST_SHOWN]}
    return render(request, "accounts/tokens.html", context)


@login_required
@reauthentication_required  # type: ignore[untyped-decorator]  # allauth has no types
@never_cache  # the answer shows the secret
@require_http_methods(["GET", "POST"])
def new(request: Asked) -> HttpResponse:
    """Make a token. The answer to the form is the one page that ever shows its secret."""
    form = TokenForm(request.POST or None)
    if not form.is_valid():
        return render(request, "accounts/token_new.html", {"form": form})
    try:
        token, secret = actions.create_token(
            user=request.user,
            name=form.cleaned_data["name"],
            scopes=form.scopes,
            lifetime=form.lifetime,
            now=timezone.now(),
            by=request.user,
        )
    except actions.BadToken as problem:
        form.add_error(None, str(problem))
        return render(request, "accounts/token_new.html", {"form": form})
    return render(request, "accounts/token_made.html", {"token": token, "secret": secret})


@login_required
@require_http_methods(["GET", "POST"])
def revoke(request: Asked, pk: int) -> HttpResponse:
    token = get_object_or_404(ApiToken.objects.live(timezone.now()), pk=pk, user=request.user)
    if request.method == "POST":
        actions.revoke_token(token=token, now=timezone.now(), by=request.user)
        messages.success(request, f"The token {token.name} is revoked.")
        return redirect("tokens:index")
    return render(request, "accounts/token_revoke.html", {"token": token})
