"""Pages of the admin on which something is done to money: a form, one action, its sentences at the fields.

They stand beside Django's own pages of a row, because those write the row themselves, in a transaction of theirs.
"""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse

from administration.base import ReadOnlyAdmin
from administration.deeds import TEMPLATE, dress
from billing.actions import InvalidPrice
from billing.payments import Refused

MOST_DIGITS = 14


class DeedForm(forms.Form):
    """`once` is new whenever the page is opened: sent twice, the deed is done once."""

    once = forms.CharField(widget=forms.HiddenInput, required=False, max_length=64)

    def __init__(self, data: Any = None, **options: Any) -> None:
        options["initial"] = {"once": uuid4().hex, **options.get("initial", {})}
        super().__init__(data, **options)


class AmountForm(DeedForm):
    amount = forms.DecimalField(max_digits=MOST_DIGITS)
    reason = forms.CharField(max_length=200, help_text="The customer reads it in the ledger.")


class ReasonForm(DeedForm):
    reason = forms.CharField(max_length=200, help_text="The customer reads it in the ledger.")


Do = Callable[[Any, HttpRequest, dict[str, Any]], str]


class Deed:
    """Something that can be done to a row: `do` calls the action, and returns what to tell of it."""

    def __init__(
        self,
        name: str,
        title: str,
        form: type[forms.Form],
        permission: str,
        do: Do,
        *,
        offered: Callable[[Any], bool] = lambda row: True,
        initial: Callable[[Any], dict[str, Any]] = lambda row: {},
    ) -> None:
        self.name, self.title, self.form, self.permission, self.do = name, title, form, permission, do
        self.offered, self.initial = offered, initial


def perform(
    request: HttpRequest,
    *,
    site: admin.AdminSite,
    title: str,
    about: str,
    form_class: type[forms.Form],
    initial: dict[str, Any],
    do: Callable[[dict[str, Any]], str],
    back: str,
    opts: Any,
) -> HttpResponse:
    """Show the form, or do what it asks and go back; what is refused is told at its field, with status 422."""
    form = form_class(request.POST if request.method == "POST" else None, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            told = do(form.cleaned_data)
        except (Refused, InvalidPrice) as problem:
            _tell(form, problem.problems)
        except ValidationError as problem:
            _tell(form, {name: " ".join(found) for name, found in problem.message_dict.items()})
        else:
            messages.success(request, told)
            return HttpResponseRedirect(back)
    context = {
        **site.each_context(request),
        "title": title,
        "about": about,
        "form": dress(form),
        "back": back,
        "opts": opts,
    }
    return TemplateResponse(request, TEMPLATE, context, status=422 if form.errors else 200)


class DeedsAdmin(ReadOnlyAdmin):
    """A row that is only looked at, with buttons for its deeds."""

    deeds: list[Deed] = []

    def get_urls(self) -> list[URLPattern]:
        own = [
            path(
                f"<path:object_id>/{deed.name}/",
                self.admin_site.admin_view(self._page(deed)),
                name=f"{self.opts.app_label}_{self.opts.model_name}_{deed.name}",
            )
            for deed in self.deeds
        ]
        return [*own, *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        deeds = [
            {"title": deed.title, "address": self._address(deed, row.pk)}
            for deed in self.deeds
            if row and request.user.has_perm(deed.permission) and deed.offered(row)
        ]
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "deeds": deeds})

    def _address(self, deed: Deed, pk: Any) -> str:
        return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_{deed.name}", args=[pk])

    def _page(self, deed: Deed) -> Callable[[HttpRequest, str], HttpResponse]:
        def view(request: HttpRequest, object_id: str) -> HttpResponse:
            if not request.user.has_perm(deed.permission):
                raise PermissionDenied
            try:
                row = get_object_or_404(self.get_queryset(request), pk=unquote(object_id))
            except ValueError:
                raise Http404 from None
            return perform(
                request,
                site=self.admin_site,
                title=deed.title,
                about=str(row),
                form_class=deed.form,
                initial=deed.initial(row),
                do=lambda values: deed.do(row, request, values),
                back=reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[row.pk]),
                opts=self.opts,
            )

        return view


def _tell(form: forms.Form, problems: dict[str, str]) -> None:
    for field, sentence in problems.items():
        form.add_error(field if field in form.fields else None, sentence)
