"""What it cost: rates, the ledger, invoices and payments."""

from django.apps import AppConfig
from django.core.checks import Tags, register


class BillingConfig(AppConfig):
    name = "billing"

    def ready(self) -> None:
        from billing.checks import currency_of_what_is_open  # models are there only now

        register(currency_of_what_is_open, Tags.database)
