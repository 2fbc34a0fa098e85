"""Where payment providers tell what was paid. The one address that takes a form from nobody in particular."""

import logging

from django.http import Http404, HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from billing import payments, providers
from billing.models import Invoice
from billing.payments import Refused
from billing.providers import Forged, Paid, Strange

logger = logging.getLogger(__name__)
LARGEST_BODY = 256 * 1024
TEXT = "text/plain"


@csrf_exempt  # it comes from a machine; its signature is what counts
@require_POST
def stripe(request: HttpRequest) -> HttpResponse:
    """200: noted, known already or none of ours. 400: forged. 409: paid, and we cannot tell for what.

    After anything but 200 Stripe sends it again, for three days, and then tells the operator by mail.
    """
    provider = providers.active()
    if provider is None:
        raise Http404
    if int(request.headers.get("Content-Length") or 0) > LARGEST_BODY:
        return HttpResponse("too large", status=413, content_type=TEXT)
    try:
        paid = provider.read(request.body, request.headers)
    except Forged as problem:
        logger.warning("a message to the webhook was not Stripe's: %s", problem)
        return HttpResponse("the signature is wrong or too old", status=400, content_type=TEXT)
    except Strange as problem:
        logger.error("money came and is not entered: %s", problem)
        return HttpResponse(str(problem), status=409, content_type=TEXT)
    if paid is None:
        return HttpResponse("ignored", content_type=TEXT)
    return _note(paid, provider.method)


def _note(paid: Paid, method: str) -> HttpResponse:
    invoice = Invoice.objects.filter(number=paid.invoice_number).first()
    if invoice is None:
        logger.error("%s %s came as %s for an invoice %r that is not there", *_what(paid))
        return HttpResponse("there is no such invoice", status=409, content_type=TEXT)
    try:
        new = payments.receive(
            invoice=invoice,
            amount=paid.amount,
            currency=paid.currency,
            method=method,
            reference=paid.reference,
            received_on=paid.at.date(),
            by=method.capitalize(),
            now=timezone.now(),
        )
    except Refused as problem:
        logger.error("%s %s came as %s for %s and cannot be entered: %s", *_what(paid), problem)
        return HttpResponse(str(problem), status=409, content_type=TEXT)
    return HttpResponse("noted" if new else "known already", content_type=TEXT)


def _what(paid: Paid) -> tuple[object, ...]:
    return paid.amount, paid.currency, paid.reference, paid.invoice_number
