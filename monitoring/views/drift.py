"""Where the machines differ from the database, and the buttons that mend it: /monitor/drift/."""

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from monitoring import drift
from monitoring.models import DriftLook
from monitoring.tasks import send_look
from monitoring.views.guard import allowed_to, for_staff
from reservations.drift import Kind

MOST_AT_ONCE = 50  # that one press mends: each is a call to a machine, and somebody waits for the page


@require_GET
@for_staff
def index(request: HttpRequest) -> HttpResponse:
    looks = list(DriftLook.objects.order_by("-asked_at")[:2])
    under_way = looks[0] if looks and looks[0].finished_at is None else None
    last = next((look for look in looks if look.finished_at), None)
    shown = last if under_way and last else under_way or last
    found = drift.found_by(shown)
    context = {
        "section": "drift",
        "look": shown,
        "under_way": under_way,
        "differences": [difference for difference in found if difference.kind != Kind.NOT_CHECKED],
        "not_checked": [difference for difference in found if difference.kind == Kind.NOT_CHECKED],
        "mendable": [difference for difference in found if difference.can_be_mended][:MOST_AT_ONCE],
        "may_mend": request.user.has_perm("compute.change_node"),
    }
    partial = request.headers.get("HX-Target") == "drift"
    return render(request, "monitor/_drift.html" if partial else "monitor/drift.html", context)


@require_POST
@allowed_to("compute.change_node")
def look(request: HttpRequest) -> HttpResponseBase:
    try:
        drift.ask(by=request.user, now=timezone.now(), send=send_look)
    except drift.NoQueue:
        messages.error(request, "Nobody can be told to look: the queue (Redis) gives no answer.")
    return redirect("monitor:drift")


@require_POST
@allowed_to("compute.change_node")
def mend(request: HttpRequest) -> HttpResponseBase:
    """One difference by its key, or whatever a machine can mend of what was read in the look `all`.

    Each is looked at again first.
    """
    last = DriftLook.objects.exclude(finished_at=None).order_by("-asked_at").first()
    found = [difference for difference in drift.found_by(last) if difference.can_be_mended]
    if of_look := request.POST.get("all"):
        if last and of_look != str(last.pk):
            messages.warning(request, "There was another look since: nothing was done. Read what would be done now.")
            return redirect("monitor:drift")
        asked = found[:MOST_AT_ONCE]
    else:
        asked = [difference for difference in drift.found_by(last) if difference.key == request.POST.get("key")]
        if not asked and not _was_a_key(request.POST.get("key", "")):
            raise Http404
    outcomes = drift.mend(asked, by=request.user, clock=timezone.now)
    for outcome in outcomes:
        (messages.success if outcome.done else messages.warning)(request, outcome.sentence)
    if not outcomes:
        messages.info(request, "It is not there any more: nothing was done.")
    elif len(found) > len(asked) and of_look:
        messages.info(request, f"{len(found) - len(asked)} more are left for the next press.")
    return redirect("monitor:drift")


def _was_a_key(text: str) -> bool:
    return len(text) == 16 and all(letter in "0123456789abcdef" for letter in text)


urlpatterns = [
    path("drift/", index, name="drift"),
    path("drift/look/", look, name="drift-look"),
    path("drift/mend/", mend, name="drift-mend"),
]
