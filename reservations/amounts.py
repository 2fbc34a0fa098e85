"""Amounts of money as people read them: one form on every page, in sentences and in mails."""

from decimal import Decimal

from django.conf import settings

SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£"}
_CENT, _FINE = Decimal("0.01"), Decimal("0.0001")


def money(amount: Decimal, currency: str = "") -> str:
    """$0.50, -€3.00, 1,250.00 CHF. Fractions of a cent show. Without a currency it is the installation's."""
    currency = currency or settings.BERTH_CURRENCY
    cents = amount.quantize(_CENT)
    size = abs(amount)
    text = f"{abs(cents):,.2f}" if cents == amount else f"{size.quantize(_FINE).normalize():,f}"
    sign = "-" if amount < 0 else ""
    symbol = SYMBOLS.get(currency)
    return f"{sign}{symbol}{text}" if symbol else f"{sign}{text} {currency}"
