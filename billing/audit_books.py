"""Whether the books agree with themselves: entries with their days, invoices with their lines, payments and balance."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal

from billing.audit_rows import NOTHING, Books, Entry, Issued
from billing.audit_usage import money
from billing.models import Invoice, InvoiceSeries

LATE = timedelta(minutes=10)  # an entry's time is taken before its transaction has the lock


def book_faults(books: Books) -> Iterator[str]:
    """A sentence for each thing in one workspace's books that does not add up."""
    by_id = {entry.id: entry for entry in books.entries}
    yield from _days(books)
    yield from _corrections(books, by_id)
    yield from _invoices(books, by_id)
    yield from _left_out(books)
    yield from _settlements(books)
    yield from _payments(books, by_id)
    yield from _balance(books)


def series_faults() -> Iterator[str]:
    """Numbers that are missing in the series of a year, or that it has not given out."""
    positions: dict[int, list[int]] = defaultdict(list)
    for year, position in Invoice.objects.order_by("year", "position").values_list("year", "position"):
        positions[year].append(position)
    given = dict(InvoiceSeries.objects.values_list("year", "last_number"))
    for year in sorted(positions.keys() | given.keys()):
        last = max(given.get(year, 0), max(positions[year], default=0))
        missing = sorted(set(range(1, last + 1)) - set(positions[year]))
        if missing:
            some = ", ".join(str(number) for number in missing[:5]) + (" …" if len(missing) > 5 else "")
            word = "number" if len(missing) == 1 else "numbers"
            yield f"the invoices of {year} lack the {word} {some}"
        if given.get(year, 0) < last:
            yield f"the invoices of {year} reach {last}, and their series has given out {given.get(year, 0)}"


def _days(books: Books) -> Iterator[str]:
    for entry in books.entries:
        days = books.days.get(entry.id)
        if entry.is_usage and days != entry.amount:
            yield (
                f"entry {entry.id} ({entry.key}) is {money(entry.amount, entry.currency)}, and its days add up to"
                f" {NOTHING if days is None else days}"
            )


def _corrections(books: Books, by_id: dict[int, Entry]) -> Iterator[str]:
    for entry in books.entries:
        if entry.corrects is not None and entry.corrects not in by_id:
            yield f"entry {entry.id} corrects entry {entry.corrects}, which is not of this workspace"
        elif entry.corrects is not None and by_id[entry.corrects].currency != entry.currency:
            yield f"entry {entry.id} in {entry.currency} corrects one in {by_id[entry.corrects].currency}"


def _invoices(books: Books, by_id: dict[int, Entry]) -> Iterator[str]:
    lines = defaultdict(list)
    for line in books.lines:
        lines[line.invoice].append(line)
    taxes = {entry.key: entry for entry in books.entries if entry.kind == "tax"}
    for invoice in books.invoices:
        name = f"invoice {invoice.number}"
        for line in lines[invoice.id]:
            entry = by_id.get(line.entry)
            if entry is None:
                yield f"{name} has a line for entry {line.entry}, which is not of this workspace"
                continue
            if entry.amount != line.amount:
                yield f"{name} has {line.amount} for entry {entry.id}, which is {entry.amount}"
            if not entry.is_usage or entry.month > invoice.month:
                yield f"{name} has a line for entry {entry.id}, a {entry.kind} of {entry.month:%B %Y}"
            if entry.currency != invoice.currency:
                yield f"{name} is in {invoice.currency}, and its entry {entry.id} in {entry.currency}"
        total = sum((line.amount for line in lines[invoice.id]), NOTHING)
        if total != invoice.subtotal:
            yield f"the lines of {name} add up to {total}, and its subtotal is {invoice.subtotal}"
        if (tax := _tax(invoice)) != invoice.tax:
            yield f"the tax of {name} is {invoice.tax} instead of {tax}"
        if invoice.subtotal + invoice.tax != invoice.total:
            yield f"{name} is {invoice.subtotal} with {invoice.tax} of tax, and its total is {invoice.total}"
        entered = taxes.pop(f"invoice:{invoice.number}:tax", None)
        if (entered.amount if entered else NOTHING) != invoice.tax:
            yield f"the tax of {name} is {invoice.tax}, and entered is {entered.amount if entered else NOTHING}"
    for key, entry in taxes.items():
        yield f"entry {entry.id} ({key}) is a tax of {entry.amount} without its invoice"


def _tax(invoice: Issued) -> Decimal:
    """In ten-thousandths of a cent first; half a cent counts in full, to either side."""
    exact = int(invoice.subtotal * 100) * int(invoice.tax_percent * 100)
    cents = (2 * abs(exact) + 10_000) // 20_000
    return Decimal(cents if exact >= 0 else -cents).scaleb(-2)


def _left_out(books: Books) -> Iterator[str]:
    """Usage that was in the ledger when an invoice of its month or a later one was made, and is on none."""
    on_one = {line.entry for line in books.lines}
    newest: dict[int, int] = {}
    for line in books.lines:
        newest[line.invoice] = max(newest.get(line.invoice, 0), line.entry)
    for entry in books.entries:
        if not entry.is_usage or entry.id in on_one:
            continue
        for invoice in books.invoices:
            there = entry.id < newest.get(invoice.id, 0) or entry.at < invoice.issued_at - LATE
            if entry.month <= invoice.month and there:
                amount = money(entry.amount, entry.currency)
                yield f"entry {entry.id} ({entry.key}, {amount}) is on no invoice, and should be on {invoice.number}"
                break


def _settlements(books: Books) -> Iterator[str]:
    settled: dict[int, Decimal] = defaultdict(lambda: NOTHING)
    for part in books.settled:
        settled[part.invoice] += part.amount
    for invoice in books.invoices:
        amount, most = settled[invoice.id], max(invoice.total, NOTHING)
        if amount > most:
            yield f"{money(amount, invoice.currency)} are settled of invoice {invoice.number}, which is {invoice.total}"
        elif amount < 0:
            yield f"{money(-amount, invoice.currency)} more were taken back of invoice {invoice.number} than settled"


def _payments(books: Books, by_id: dict[int, Entry]) -> Iterator[str]:
    settled: dict[int, Decimal] = defaultdict(lambda: NOTHING)
    for part in books.settled:
        if part.payment is not None:
            settled[part.payment] += part.amount
    reversed_ = {entry.corrects: entry.amount for entry in books.entries if entry.kind == "reversal"}
    entries = {entry.id for entry in books.entries if entry.kind == "payment"}
    for payment in books.payments:
        name, entry = f"payment {payment.id} ({payment.reference})", by_id.get(payment.entry)
        if entry is None or entry.kind != "payment":
            yield f"{name} over {payment.amount} has no entry in the ledger"
            continue
        entries.discard(entry.id)
        if entry.amount != -payment.amount:
            yield f"{name} is {payment.amount}, and its entry {entry.id} is {entry.amount}"
        left = payment.amount - reversed_.get(entry.id, NOTHING)
        if settled[payment.id] != left:
            yield f"{name} settles {settled[payment.id]}, and {left} of it are there"
    for number in sorted(entries):
        yield f"entry {number} is a payment of {-by_id[number].amount} that nobody recorded"


def _balance(books: Books) -> Iterator[str]:
    """What is owed is what is open of invoices and on none yet, less the credit that is left; in each currency."""
    balance: dict[str, Decimal] = defaultdict(lambda: NOTHING)
    explained: dict[str, Decimal] = defaultdict(lambda: NOTHING)
    on_one = {line.entry for line in books.lines}
    granted = {entry.id for entry in books.entries if entry.kind == "credit"}
    for entry in books.entries:
        balance[entry.currency] += entry.amount
        if entry.is_usage and entry.id not in on_one:
            explained[entry.currency] += entry.amount  # unbilled
        elif entry.kind == "credit" or (entry.kind == "reversal" and entry.corrects in granted):
            explained[entry.currency] += entry.amount  # credit
    currency_of = {invoice.id: invoice.currency for invoice in books.invoices}
    for invoice in books.invoices:
        explained[invoice.currency] += invoice.total  # open, and credit notes
    for part in books.settled:
        # By a payment it is less open; out of credit it is less open and less credit.
        explained[currency_of[part.invoice]] -= part.amount if part.payment is not None else NOTHING
    for currency in sorted(balance.keys() | explained.keys()):
        if balance[currency] != explained[currency]:
            yield (
                f"the balance is {money(balance[currency], currency)}, and open invoices, unbilled usage and credit"
                f" come to {explained[currency]}"
            )
        if currency != books.currency and balance[currency]:
            yield f"the account is kept in {books.currency}, and {money(balance[currency], currency)} are not even"
