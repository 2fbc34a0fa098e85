"""The admin's pages for money. Rows are only looked at; what can be done is a page of its own that calls an action."""

from datetime import date
from decimal import Decimal
from typing import Any

from django.contrib import admin
from django.db.models import F, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone

from administration.base import ReadOnlyAdmin, ReadOnlyInline
from billing import admin_deeds
from billing.admin_pages import DeedsAdmin, perform
from billing.models import (
    BillingAccount,
    BudgetNotice,
    DailyCost,
    Discount,
    Invoice,
    InvoiceDocument,
    InvoiceLine,
    InvoiceSeries,
    LedgerAudit,
    LedgerEntry,
    Payment,
    Rate,
    Settlement,
)
from billing.models.invoices import is_overdue

_OPEN, _OVERDUE, _PAID, _NOTES = "open", "overdue", "paid", "notes"


class PriceAdmin(DeedsAdmin):
    """A price is begun on a page of its own, and then only ended."""

    title = ""
    form_class: Any = None
    begin: Any = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(f"billing.add_{self.opts.model_name}")

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if not self.has_add_permission(request):
            return super().add_view(request, form_url, extra_context)  # which refuses it
        return perform(
            request,
            site=self.admin_site,
            title=self.title,
            about="What was served and what is booked keep their prices.",
            form_class=self.form_class,
            initial={},
            do=lambda values: str(type(self).begin(request, values)),
            back=reverse(f"admin:billing_{self.opts.model_name}_changelist"),
            opts=self.opts,
        )

    @admin.display(description="from", ordering="during__startswith")
    def begins(self, row: Rate | Discount) -> object:
        return row.during.lower

    @admin.display(description="until")
    def ends(self, row: Rate | Discount) -> object:
        return row.during.upper


@admin.register(Rate)
class RateAdmin(PriceAdmin):
    list_display = [
        "id", "workspace", "currency", "per_core_hour", "per_gib_hour", "per_gb_month", "rounding", "begins", "ends",
    ]  # fmt: skip
    list_filter = [("workspace", admin.EmptyFieldListFilter), "currency", "rounding"]
    list_select_related = ["workspace"]
    search_fields = ["workspace__name"]
    deeds = admin_deeds.OF_A_RATE
    title, form_class, begin = "Let a rate hold", admin_deeds.RateForm, staticmethod(admin_deeds.begin_rate)


@admin.register(Discount)
class DiscountAdmin(PriceAdmin):
    list_display = ["id", "workspace", "percent", "reason", "begins", "ends"]
    list_select_related = ["workspace"]
    search_fields = ["workspace__name", "reason"]
    deeds = admin_deeds.OF_A_DISCOUNT
    title, form_class, begin = "Give a discount", admin_deeds.DiscountForm, staticmethod(admin_deeds.begin_discount)


@admin.register(BillingAccount)
class BillingAccountAdmin(DeedsAdmin):
    list_display = [
        "workspace", "currency", "balance", "credit_limit", "monthly_budget", "hard_stop", "closed_through", "email",
    ]  # fmt: skip
    list_filter = ["currency", "hard_stop", ("credit_limit", admin.EmptyFieldListFilter)]
    list_select_related = ["workspace"]
    search_fields = ["workspace__name", "recipient", "email", "tax_number"]
    ordering = ["workspace__name"]
    deeds = admin_deeds.OF_AN_ACCOUNT

    def get_queryset(self, request: HttpRequest) -> QuerySet[BillingAccount]:
        entries = LedgerEntry.objects.filter(workspace=OuterRef("pk")).order_by().values("workspace")
        owed = Subquery(entries.annotate(owed=Sum("amount")).values("owed"))
        return BillingAccount.objects.annotate(owed=Coalesce(owed, Decimal("0.00"))).order_by("workspace__name")

    @admin.display(description="owes", ordering="owed")
    def balance(self, row: Any) -> Decimal:
        """Below zero: it has credit."""
        return Decimal(row.owed)


@admin.register(LedgerEntry)
class LedgerEntryAdmin(DeedsAdmin):
    list_display = ["id", "at", "workspace", "kind", "month", "amount", "currency", "text", "by"]
    list_filter = ["kind", "month", "currency"]
    list_select_related = ["workspace"]
    search_fields = ["workspace__name", "text", "key", "=reservation__id"]
    show_full_result_count = False
    deeds = admin_deeds.OF_AN_ENTRY


class InvoiceState(admin.SimpleListFilter):
    title, parameter_name = "state", "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(_OPEN, "open"), (_OVERDUE, "overdue"), (_PAID, "paid"), (_NOTES, "credit notes")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """`queryset` knows what is settled."""
        opened = queryset.filter(total__gt=F("settled"))
        return {
            _OPEN: opened,
            _OVERDUE: opened.filter(due_on__lt=timezone.localdate()),
            _PAID: queryset.filter(total__gte=0, total__lte=F("settled")),
            _NOTES: queryset.filter(total__lt=0),
        }.get(self.value() or "", queryset)


class LineInline(ReadOnlyInline):
    model = InvoiceLine
    fields = ["position", "text", "quantity", "amount"]


class SettlementInline(ReadOnlyInline):
    model = Settlement
    fields = ["at", "payment", "amount"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Settlement]:
        return super().get_queryset(request).select_related("payment")


@admin.register(Invoice)
class InvoiceAdmin(DeedsAdmin):
    list_display = ["number", "workspace", "month", "total", "currency", "open", "due_on", "overdue", "issued_on"]
    list_filter = [InvoiceState, "year", "month", "currency"]
    list_select_related = ["workspace"]
    search_fields = ["number", "workspace__name", "recipient", "payments__reference"]
    inlines = [LineInline, SettlementInline]
    deeds = admin_deeds.OF_AN_INVOICE

    def get_queryset(self, request: HttpRequest) -> QuerySet[Invoice]:
        return Invoice.objects.with_open_amount()

    @admin.display(description="open")
    def open(self, row: Any) -> Decimal:
        return Decimal(max(row.total - row.settled, 0))

    @admin.display(description="overdue", boolean=True)
    def overdue(self, row: Any) -> bool:
        today: date = timezone.localdate()
        return is_overdue(row.due_on, row.total - row.settled, today)


@admin.register(Payment)
class PaymentAdmin(DeedsAdmin):
    list_display = ["id", "received_on", "invoice", "workspace", "amount", "method", "reference", "recorded_by"]
    list_filter = ["method", "received_on"]
    list_select_related = ["invoice__workspace", "recorded_by"]
    search_fields = ["reference", "invoice__number", "invoice__workspace__name"]
    date_hierarchy = "received_on"
    deeds = admin_deeds.OF_A_PAYMENT

    @admin.display(ordering="invoice__workspace__name")
    def workspace(self, row: Payment) -> object:
        return row.invoice.workspace


@admin.register(Settlement)
class SettlementAdmin(ReadOnlyAdmin):
    list_display = ["id", "at", "invoice", "payment", "amount"]
    list_filter = ["at", ("payment", admin.EmptyFieldListFilter)]
    list_select_related = ["invoice", "payment"]
    search_fields = ["invoice__number", "payment__reference"]


@admin.register(InvoiceLine)
class InvoiceLineAdmin(ReadOnlyAdmin):
    list_display = ["invoice", "position", "text", "quantity", "amount"]
    list_filter = ["invoice__month"]
    list_select_related = ["invoice"]
    search_fields = ["invoice__number", "text", "=reservation__id"]
    show_full_result_count = False


@admin.register(InvoiceDocument)
class InvoiceDocumentAdmin(ReadOnlyAdmin):
    list_display = ["invoice", "mailed_to", "mailed_at", "attempts", "problem"]
    list_filter = [("mailed_at", admin.EmptyFieldListFilter), ("problem", admin.EmptyFieldListFilter)]
    list_select_related = ["invoice"]
    search_fields = ["invoice__number", "mailed_to"]
    exclude = ["pdf"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[InvoiceDocument]:
        return super().get_queryset(request).defer("pdf")


@admin.register(InvoiceSeries)
class InvoiceSeriesAdmin(ReadOnlyAdmin):
    list_display = ["year", "last_number"]


@admin.register(DailyCost)
class DailyCostAdmin(ReadOnlyAdmin):
    list_display = ["day", "workspace", "service", "amount", "core_seconds", "entry"]
    list_filter = ["service"]
    list_select_related = ["workspace", "service", "entry"]
    search_fields = ["workspace__name", "=entry__id"]
    date_hierarchy = "day"
    show_full_result_count = False


@admin.register(BudgetNotice)
class BudgetNoticeAdmin(ReadOnlyAdmin):
    list_display = ["account", "month", "percent", "budget", "spent", "noted_at", "sent_at"]
    list_filter = ["percent", "month"]
    list_select_related = ["account__workspace"]
    search_fields = ["account__workspace__name"]


@admin.register(LedgerAudit)
class LedgerAuditAdmin(ReadOnlyAdmin):
    list_display = ["at", "seconds", "reservations", "entries", "invoices", "found"]
