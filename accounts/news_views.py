"""The pages of news: the list, the bell, what somebody wants to hear, and the link that ends mails."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import choosing, news
from accounts.choosing import Ways
from accounts.models import Notice
from accounts.views import Asked

PER_PAGE = 25
MOST = 2**63 - 1


@login_required
@require_GET
def index(request: Asked) -> HttpResponse:
    rows = news.shown_to(request.user)
    show = "unread" if request.GET.get("show") == "unread" else "all"
    page = Paginator(rows.filter(read_at=None) if show == "unread" else rows, PER_PAGE).get_page(
        request.GET.get("page")
    )
    return render(request, "accounts/news.html", {"page_obj": page, "show": show, "unread": news.unread(request.user)})


@login_required
@require_GET
def bell(request: Asked) -> HttpResponse:
    """The bell of the top bar, alone."""
    return render(request, "_components/bell.html")


@login_required
@require_POST
def read(request: Asked, pk: int) -> HttpResponse:
    """Note that it was read, and go where it leads if that was asked for."""
    row = news.read(user=request.user, pk=pk, now=timezone.now()) if pk <= MOST else None
    if row is None:
        raise Http404
    return redirect(row.path if request.POST.get("go") and row.path else "notifications:index")


@login_required
@require_POST
def read_all(request: Asked) -> HttpResponse:
    until = request.POST.get("until", "")
    if until.isascii() and until.isdigit() and len(until) < len(str(MOST)):
        news.read_all(user=request.user, until=int(until), now=timezone.now())
    return redirect("notifications:index")


@login_required
@require_http_methods(["GET", "POST"])
def choices(request: Asked) -> HttpResponse:
    """A tick for each kind and way; one that is not sent is one that was taken away."""
    if request.method == "POST":
        sent = request.POST
        ways = {kind: Ways(f"{kind}-page" in sent, f"{kind}-mail" in sent) for kind in Notice}
        choosing.choose(user=request.user, ways=ways, by=request.user)
        messages.success(request, "Saved: from now on you hear of these things so.")
        return redirect("notifications:choices")
    return render(request, "accounts/news_choices.html", {"choices": choosing.choices_of(request.user).items()})


@csrf_exempt  # the link itself is the proof; a mail program that offers “unsubscribe” posts to it (RFC 8058)
@require_http_methods(["GET", "POST"])
def stop(request: HttpRequest, token: str) -> HttpResponse:
    """Without log-in: GET tells what would end, POST ends it."""
    context: dict[str, Any] = {"token": token}
    try:
        user, kinds = choosing.read_token(token)
    except choosing.BadLink as problem:
        return render(request, "accounts/news_stop.html", context | {"problem": str(problem)}, status=404)
    if request.method == "POST":
        choosing.stop_mails(user=user, kinds=kinds, by=user)
        context["done"] = True
    kind = kinds[0] if len(kinds) == 1 else None
    return render(request, "accounts/news_stop.html", context | {"kind": kind})


urlpatterns = [
    path("", index, name="index"),
    path("bell/", bell, name="bell"),
    path("read/", read_all, name="read-all"),
    path("<int:pk>/read/", read, name="read"),
    path("choices/", choices, name="choices"),
    path("stop/<str:token>/", stop, name="stop"),
]
