"""Stripe on this machine: `python -m tests.stripe_stand_in PORT WEBHOOK SECRET`.

localstripe (from PyPI) keeps the cards, takes the money, signs and sends the events. It knows no Checkout, so that part
is here: a session as Stripe describes it, and the page on which the customer pays (`/_config/pay/ID`, POST).
"""

import sys
import time
from typing import Any

from aiohttp import web
from localstripe import resources, server, webhooks  # type: ignore[import-untyped]
from localstripe.errors import UserError  # type: ignore[import-untyped]

KNOWN = {"mode", "line_items", "client_reference_id", "payment_intent_data", "success_url", "cancel_url"} | {
    "expires_at",
    "customer_email",
}
MINUTE = 60
CARD = {"number": "4242424242424242", "exp_month": "12", "exp_year": "2040", "cvc": "123"}

resources.Store.dump_to_disk = lambda store: None  # every one begins empty
resources.PaymentIntent.amount_received = property(lambda intent: intent.amount if intent.status == "succeeded" else 0)


class Session(resources.StripeObject):  # type: ignore[misc]
    object = "checkout.session"
    _id_prefix = "cs_test_"

    def __init__(self, **wanted: Any) -> None:
        if unknown := set(wanted) - KNOWN:
            raise UserError(400, f"Received unknown parameters: {sorted(unknown)}")
        item = wanted["line_items"][0]
        price = item["price_data"]
        lasts_s = int(wanted["expires_at"]) - time.time()
        if wanted["mode"] != "payment" or int(item["quantity"]) != 1 or not price["product_data"]["name"]:
            raise UserError(400, "Bad request")
        if int(price["unit_amount"]) < 1 or price["currency"] != price["currency"].lower():
            raise UserError(400, "Bad amount")
        if not 30 * MINUTE <= lasts_s <= 24 * 60 * MINUTE:
            raise UserError(400, "The expires_at timestamp must be less than 24 hours and more than 30 minutes away.")
        super().__init__()
        self.amount_total = int(price["unit_amount"])
        self.currency = price["currency"]
        self.client_reference_id = wanted.get("client_reference_id")
        self.customer_email = wanted.get("customer_email")
        self.success_url = wanted["success_url"]
        self.cancel_url = wanted["cancel_url"]
        self.metadata: dict[str, str] = {}
        self.of_intent = wanted.get("payment_intent_data", {}).get("metadata", {})
        self.url = f"http://127.0.0.1:{sys.argv[1]}/_config/pay/{self.id}"

    def _pay(self) -> None:
        """As a customer does: each time is another payment."""
        method = resources.PaymentMethod._api_create(type="card", card=CARD)
        resources.PaymentIntent._api_create(
            amount=self.amount_total,
            currency=self.currency,
            payment_method=method.id,
            metadata=self.of_intent,
            confirm=True,
        )


async def page(request: web.Request) -> web.Response:
    session = Session._api_retrieve(request.match_info["id"])
    if request.method == "GET":
        text = f"<form method=post>{session.amount_total} {session.currency}<button>Pay</button></form>"
        return web.Response(text=text, content_type="text/html")
    session._pay()
    raise web.HTTPSeeOther(session.success_url)


def main(port: int, webhook: str, secret: str) -> None:
    webhooks.register_webhook("berth", webhook, secret, None)
    server.app.router.add_post("/v1/checkout/sessions", server.api_create(Session, "/v1/checkout/sessions"))
    server.app.router.add_route("*", "/_config/pay/{id}", page)
    web.run_app(server.app, host="127.0.0.1", port=port)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
