"""What the page of every model does: search without counting everything, choose rows by typing, tell what changed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import ForeignKey, ManyToManyField, Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html_join

from administration import audit, history
from administration.paging import CountingSomePaginator

if TYPE_CHECKING:  # unfold has no types; its classes are Django's
    ModelAdmin = admin.ModelAdmin[Any]
    TabularInline = admin.TabularInline[Any, Any]
else:
    from unfold.admin import ModelAdmin, TabularInline

Link = tuple[str, str]
MOST_NAMED = 3


def coloured(field: str, colours: dict[str, str]) -> Any:
    """A column with the field's value as a badge; `colours` are unfold's success, info, warning and danger."""

    @admin.display(description=field.replace("_", " "), ordering=field)
    def column(self: Any, row: Any) -> str:
        return str(getattr(row, field))

    column.label = colours  # type: ignore[attr-defined]  # as unfold reads it
    return column


class BerthAdmin(ModelAdmin):
    """A model's pages. What is changed on them is in the audit log, in the transaction of the change."""

    show_full_result_count = False
    list_per_page = 50
    list_max_show_all = 200
    list_filter_sheet = False
    instead_of_deleting = ""  # what to do with a row that something needs

    # ---- where else one sees the row, and what was called so in the audit log ---------------------------------------
    def links(self, row: Any) -> list[Link]:
        """Title and address of pages that show the row live."""
        return []

    def audit_targets(self, row: Any) -> list[str]:
        """The row's names in the audit log, its own first."""
        return [f"{self.opts.model_name}:{row.pk}"]

    @admin.display(description="see also")
    def see_also(self, row: Any) -> str:
        if row.pk is None:
            return "-"
        links = [(address, title) for title, address in self.links(row) if address]
        return format_html_join(" · ", '<a class="berth-link" href="{}">{}</a>', links) or "-"

    # ---- lists ------------------------------------------------------------------------------------------------------
    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """What is not shown is not filtered by either: a secret would be read letter by letter."""
        field = lookup.partition("__")[0]
        allowed: bool = field not in (self.exclude or ()) and super().lookup_allowed(lookup, value, request)
        return allowed

    # ---- forms ------------------------------------------------------------------------------------------------------
    def get_autocomplete_fields(self, request: HttpRequest) -> list[str]:
        """Every field that names a row which can be searched: a list of all workspaces is no choice."""
        return [
            field.name
            for field in self.opts.get_fields()
            if isinstance(field, ForeignKey | ManyToManyField)
            and (page := self.admin_site._registry.get(cast("type[Model]", field.related_model)))
            and page.get_search_fields(request)
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        links = [{"title": title, "address": to} for title, to in self.links(row) if to] if row else []
        context = {"links": links, **(extra_context or {})}
        answer: HttpResponse = super().change_view(request, object_id, form_url, context)
        return answer

    # ---- history ----------------------------------------------------------------------------------------------------
    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Django's own entries of the row, and Berth's audit log of it."""
        row = self.get_object(request, unquote(object_id))
        if row is not None and not self.has_view_or_change_permission(request, row):
            raise PermissionDenied
        entries = history.of_row(row, self.audit_targets(row), request.user) if row is not None else []
        answer: HttpResponse = super().history_view(
            request, object_id, {"entries": entries, "most": history.MOST, **(extra_context or {})}
        )
        return answer

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> LogEntry:
        return self._told(request, obj, "add", super().log_addition(request, obj, message))

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> LogEntry:
        return self._told(request, obj, "change", super().log_change(request, obj, message))

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for row in queryset:
            self._record(request, row, "delete", str(row))
        return super().log_deletions(request, queryset)

    def _told(self, request: HttpRequest, row: Any, verb: str, entry: LogEntry) -> LogEntry:
        self._record(request, row, verb, entry.get_change_message())
        return entry

    def _record(self, request: HttpRequest, row: Any, verb: str, what: str) -> None:
        target = self.audit_targets(row)[0]
        audit.record(
            by=request.user,
            action=f"{target.partition(':')[0]}.{verb}",
            target=target,
            name=str(row)[:200],
            what=what[:1000],
            where="admin",
        )

    # ---- deleting ---------------------------------------------------------------------------------------------------
    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Refused with a sentence where something needs the row, instead of a page on which nothing can be done."""
        row = self.get_object(request, unquote(object_id))
        if row is not None and self.has_delete_permission(request, row):
            _, _, kept, needed_by = self.get_deleted_objects([row], request)
            if needed_by or kept:
                messages.error(request, self._why_not(row, kept, needed_by))
                name = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
                return HttpResponseRedirect(reverse(name, args=[row.pk]))
        answer: HttpResponse = super().delete_view(request, object_id, extra_context)
        return answer

    def _why_not(self, row: Model, kept: set[str], needed_by: Sequence[Any]) -> str:
        said = f"{row} cannot be deleted: "
        if needed_by:
            count = len(needed_by)
            said += f"{count} other {'row needs' if count == 1 else 'rows need'} it."
        else:
            said += f"its {', '.join(sorted(map(str, kept))[:MOST_NAMED])} would be lost with it, and must be kept."
        return f"{said} {self.instead_of_deleting}".strip()


class ReadOnlyAdmin(BerthAdmin):
    """For rows that only the portal writes: to change one by hand would break a promise.

    Every field is shown, except those of `exclude`: whatever is a secret has to be there.
    """

    paginator = CountingSomePaginator

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        hidden = set(self.exclude or ())
        return [field.name for field in self.opts.concrete_fields if field.name not in hidden]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class Inline(TabularInline):
    """Rows below another."""

    extra = 0


class ReadOnlyInline(Inline):
    """Rows below another, only looked at."""

    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
