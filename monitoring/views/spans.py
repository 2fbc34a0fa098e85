"""How much of the past somebody wants to see: ?span=1h, 24h or 14d."""

from django.http import Http404, HttpRequest, JsonResponse

from monitoring.series import SPANS, USUAL, NoSuchSpan


def span_of(request: HttpRequest) -> str:
    """Raises Http404 for one that there is none of."""
    span = request.GET.get("span", USUAL)
    if span not in SPANS:
        raise Http404
    return span


def no_such_span(problem: NoSuchSpan) -> JsonResponse:
    return JsonResponse({"detail": str(problem)}, status=400)
