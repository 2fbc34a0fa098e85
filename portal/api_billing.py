"""The API's billing, all of it to read: usage, ledger, invoices, and where a workspace's money stands."""

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from ninja import Field, Query, Router, Schema
from pydantic import AfterValidator

from accounts.models import User
from accounts.workspaces import personal_workspace
from billing import affording, documents, ledger, ledger_page, months, payments, pricing, spending, usage
from billing.forms import parse_month
from billing.models import Invoice, InvoiceLine, LedgerEntry
from billing.pages import Desk, asked_month, desk_of
from billing.pricing import NOTHING
from billing.standing import standing
from billing.typesetting import CannotTypeset
from portal.problems import Problem, problem
from reservations.models import Reservation, UsagePeriod

router = Router(tags=["billing"])
MOST_AT_ONCE = 500
LARGEST = 2**63 - 1
Kind = Literal["charge", "tax", "credit", "payment", "correction", "reversal"]


def _month(text: str) -> str:
    parse_month(text)
    return text


Month = Annotated[str, AfterValidator(_month)]
Number = Annotated[int, Field(ge=1, le=LARGEST)]


class OfWorkspace(Schema):
    """Whose money: `workspace` is a number of /billing/workspaces; left out, your personal one."""

    workspace: Number | None = None


class Slice(OfWorkspace):
    limit: int = Field(100, ge=1, le=MOST_AT_ONCE)
    offset: int = Field(0, ge=0, le=1_000_000)


class OfMonth(OfWorkspace):
    month: Month | None = Field(None, description="2026-05; left out, this one", examples=["2026-05"])


class UsageFilter(Slice):
    month: Month | None = Field(None, description="Only what lies in it, in the account's zone", examples=["2026-05"])
    reservation: Number | None = None


class LedgerFilter(Slice):
    kind: Kind | None = None
    month: Month | None = Field(None, examples=["2026-05"])
    reservation: Number | None = None


class InvoiceFilter(Slice):
    open: bool | None = Field(None, description="true: those of which something is to be paid")


class WorkspaceOut(Schema):
    id: int
    name: str
    personal: bool


class SummaryOut(Schema):
    """A month's money before tax, and how the account stands now.

    `spent` is `charged` (in the ledger) and `accrued` (served, not there yet); `forecast` adds what is booked for the
    rest of the month. `held` is what is booked and not charged yet, in all months. `balance` is what is owed, negative
    when there is credit; `credit` is what no invoice has used of it.
    """

    workspace: WorkspaceOut
    currency: str
    month: str
    time_zone: str
    charged: Decimal
    accrued: Decimal
    spent: Decimal
    forecast: Decimal
    held: Decimal
    balance: Decimal
    credit: Decimal
    monthly_budget: Decimal | None
    budget_left: Decimal | None
    hard_stop: bool
    credit_limit: Decimal | None


class UsageOut(Schema):
    """A served interval. `end` is null while it serves; `cost` is what it adds, so that all of them are the bill."""

    reservation: int
    name: str
    service: str
    start: datetime
    end: datetime | None
    seconds: float
    cost: Decimal
    currency: str


class EntryOut(Schema):
    """A line of the ledger: positive is owed more. `balance` is what is owed with it and all that came before."""

    id: int
    at: datetime
    month: str
    kind: str
    amount: Decimal
    currency: str
    balance: Decimal
    text: str
    reservation: int | None
    corrects: int | None
    invoice: str | None


class InvoiceOut(Schema):
    """An invoice. `state` is open, partly paid, overdue, paid or credit note; `open` is what is to be paid."""

    id: int
    number: str
    month: str
    issued_on: date
    due_on: date
    currency: str
    subtotal: Decimal
    tax_percent: Decimal
    tax: Decimal
    total: Decimal
    open: Decimal
    state: str
    pdf: str

    @classmethod
    def of(cls, row: Invoice, now: datetime, **more: Any) -> Self:
        stands = standing(row, timezone.localdate(now))
        names = ("number", "issued_on", "due_on", "currency", "subtotal", "tax_percent", "tax", "total")
        values = {name: getattr(row, name) for name in names}
        pdf = f"/api/v1/billing/invoices/{row.pk}/pdf"
        month = f"{row.month:%Y-%m}"
        return cls(id=row.pk, month=month, open=stands.open, state=stands.word, pdf=pdf, **values, **more)


class LineOut(Schema):
    reservation: int | None
    text: str
    served_from: datetime | None
    served_until: datetime | None
    quantity: str
    amount: Decimal

    @classmethod
    def of(cls, row: InvoiceLine) -> Self:
        return cls(
            reservation=row.reservation_id,
            text=row.text,
            served_from=row.served_from,
            served_until=row.served_until,
            quantity=row.quantity,
            amount=row.amount,
        )


class WholeInvoiceOut(InvoiceOut):
    seller: str
    recipient: str
    recipient_tax_number: str
    tax_label: str
    note: str
    lines: list[LineOut]


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # noqa: S101 - the bearer token has seen to it
    return request.user


def _desk(request: HttpRequest, workspace: int | None) -> Desk:
    user = _user(request)
    return desk_of(user, str(workspace or personal_workspace(user).pk))


@router.get(
    "/workspaces", response={200: list[WorkspaceOut], 401: Problem}, summary="The workspaces whose money you see"
)
def workspaces(request: HttpRequest) -> Any:
    user = _user(request)
    return [_workspace(row, user) for row in _desk(request, None).choices]


def _workspace(row: Any, user: User) -> WorkspaceOut:
    return WorkspaceOut(id=row.pk, name=row.name, personal=row.personal_of_id == user.pk)


@router.get(
    "/summary", response={200: SummaryOut, 404: Problem, 422: Problem, 401: Problem}, summary="A month and the balance"
)
def summary(request: HttpRequest, found: Query[OfMonth]) -> Any:
    desk, now = _desk(request, found.workspace), timezone.now()
    account = desk.account
    month = asked_month(found.month or "", account, now)
    spent = spending.spending(account, month, now)
    committed = affording.commitments(account, now)
    budget = account.monthly_budget
    left = max(budget - committed.by_month.get(month, NOTHING), NOTHING) if budget is not None else None
    return SummaryOut(
        workspace=_workspace(desk.workspace, desk.user),
        currency=account.currency,
        month=f"{month:%Y-%m}",
        time_zone=account.zone.key,
        charged=spent.charged,
        accrued=spent.accrued,
        spent=spent.spent,
        forecast=spent.forecast,
        held=committed.held,
        balance=ledger.balance(account.workspace_id),
        credit=payments.available_credit(account.workspace_id),
        monthly_budget=budget,
        budget_left=left,
        hard_stop=account.hard_stop,
        credit_limit=account.credit_limit,
    )


@router.get(
    "/usage",
    response={200: list[UsageOut], 404: Problem, 422: Problem, 401: Problem},
    summary="What was served and what it cost, newest first",
)
def served(request: HttpRequest, found: Query[UsageFilter]) -> Any:
    account, now = _desk(request, found.workspace).account, timezone.now()
    rows = UsagePeriod.objects.filter(reservation__workspace=account.workspace_id).order_by("-during", "-pk")
    if found.reservation:
        rows = rows.filter(reservation=found.reservation)
    inside = None
    if found.month:
        inside = months.stretch(parse_month(found.month), account.zone)
        rows = rows.filter(during__overlap=inside)
    return list(_usage(rows[found.offset : found.offset + found.limit], inside, now))


def _usage(rows: "QuerySet[UsagePeriod]", inside: months.Stretch | None, now: datetime) -> Iterable[UsageOut]:
    """Each interval, as far as it lies in the month, with the difference that it makes to its reservation's cost."""
    periods = list(rows)
    reservations = usage.with_usage(Reservation.objects.all()).in_bulk({row.reservation_id for row in periods})
    for period in periods:
        row = reservations[period.reservation_id]
        closes: datetime | None = period.during.upper
        start, end = period.during.lower, closes or min(now, row.end)
        if inside:
            start, end = max(start, inside[0]), min(end, inside[1])
            closes = end if closes or end == inside[1] else None
        size, terms, all_served = usage.size_of(row), usage.terms_of(row), usage.served(row, now)
        part = pricing.cost(all_served, size, terms, end) - pricing.cost(all_served, size, terms, start)
        yield UsageOut(
            reservation=row.pk,
            name=row.name,
            service=row.service.slug,
            start=start,
            end=closes,
            seconds=round(part.served.total_seconds(), 3),
            cost=part.amount,
            currency=terms.currency,
        )


@router.get(
    "/ledger",
    response={200: list[EntryOut], 404: Problem, 422: Problem, 401: Problem},
    summary="The ledger, newest first",
)
def entries(request: HttpRequest, found: Query[LedgerFilter]) -> Any:
    account = _desk(request, found.workspace).account
    rows = ledger_page.with_names(ledger.of_account(account))
    if found.kind:
        rows = rows.filter(kind=found.kind)
    if found.month:
        rows = rows.filter(month=parse_month(found.month))
    if found.reservation:
        rows = rows.filter(reservation=found.reservation)
    page = list(rows[found.offset : found.offset + found.limit])
    return [_entry(line) for line in ledger_page.lines(account, page)]


def _entry(line: ledger_page.Line) -> EntryOut:
    row = line.entry
    return EntryOut(
        id=row.pk,
        at=row.at,
        month=f"{row.month:%Y-%m}",
        kind=row.kind,
        amount=row.amount,
        currency=row.currency,
        balance=line.balance,
        text=row.text,
        reservation=row.reservation_id,
        corrects=row.corrects_id,
        invoice=_invoice_number(row),
    )


def _invoice_number(row: LedgerEntry) -> str | None:
    """Of the invoice that it is on, or that it paid."""
    names = [getattr(row, name).invoice.number for name in ("line", "payment") if hasattr(row, name)]
    return names[0] if names else None


@router.get(
    "/invoices",
    response={200: list[InvoiceOut], 404: Problem, 422: Problem, 401: Problem},
    summary="Invoices, newest first",
)
def invoices(request: HttpRequest, found: Query[InvoiceFilter]) -> Any:
    account, now = _desk(request, found.workspace).account, timezone.now()
    mine = Invoice.objects.filter(workspace=account.workspace_id)
    rows = mine.open() if found.open else mine.with_open_amount()
    if found.open is False:
        rows = rows.exclude(pk__in=mine.open().values("pk"))
    return [InvoiceOut.of(row, now) for row in rows[found.offset : found.offset + found.limit]]


@router.get(
    "/invoices/{int:pk}",
    response={200: WholeInvoiceOut, 404: Problem, 401: Problem},
    summary="One invoice with its lines",
)
def invoice(request: HttpRequest, pk: int) -> Any:
    row = _invoice(request, pk)
    names = ("seller", "recipient", "recipient_tax_number", "tax_label", "note")
    more = {name: getattr(row, name) for name in names}
    return WholeInvoiceOut.of(row, timezone.now(), lines=[LineOut.of(line) for line in row.lines.all()], **more)


@router.get(
    "/invoices/{int:pk}/pdf",
    response={404: Problem, 401: Problem},
    summary="One invoice as PDF",
    openapi_extra={
        "responses": {
            200: {
                "description": "The document",
                "content": {"application/pdf": {"schema": {"type": "string", "format": "binary"}}},
            }
        }
    },
)
def pdf(request: HttpRequest, pk: int) -> Any:
    row = _invoice(request, pk)
    try:
        body = documents.pdf_at_once(row, timezone.now())
    except CannotTypeset as fault:
        return problem(503, "unavailable", str(fault))
    answer = HttpResponse(body, content_type="application/pdf")
    answer["Content-Disposition"] = f'attachment; filename="{documents.file_name(row)}"'
    return answer


def _invoice(request: HttpRequest, pk: int) -> Invoice:
    return get_object_or_404(Invoice.objects.visible_to(_user(request)).with_open_amount(), pk=pk)
