"""Pages on which something is done: a form, one action, its sentences at the fields.

They stand beside Django's own pages of a row, because those write the row themselves, in a transaction of theirs.
"""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from unfold import widgets

TEMPLATE = "admin/deed.html"
_LOOKS: tuple[tuple[type[forms.Widget], list[str]], ...] = (
    (forms.CheckboxInput, widgets.CHECKBOX_CLASSES),
    (forms.Select, widgets.SELECT_CLASSES),
    (forms.Textarea, widgets.TEXTAREA_CLASSES),
    (forms.widgets.Input, widgets.INPUT_CLASSES),
)


class ReasonForm(forms.Form):
    reason = forms.CharField(max_length=200)

    def __init__(self, data: Any = None, *, told: str = "", **options: Any) -> None:
        super().__init__(data, **options)
        self.fields["reason"].help_text = told


def dress(form: forms.Form) -> forms.Form:
    """Give a plain form's fields the theme's look."""
    for field in form.fields.values():
        if field.widget.is_hidden or "data-autocomplete-light-function" in field.widget.attrs:
            continue
        look = next((classes for kind, classes in _LOOKS if isinstance(field.widget, kind)), None)
        if look and "admin-autocomplete" not in field.widget.attrs.get("class", ""):
            field.widget.attrs["class"] = " ".join(look)
    return form


def ask_reason(
    request: HttpRequest,
    rows: QuerySet[Any],
    *,
    page: admin.ModelAdmin[Any],
    action: str,
    title: str,
    about: str,
    told: str,
    do: Callable[[str], None],
) -> TemplateResponse | None:
    """The page between an action of a list and its deed, which asks for a reason; None: `do` was called with it."""
    sent = "reason" in request.POST
    form = ReasonForm(request.POST if sent else None, told=told)
    if sent and form.is_valid():
        do(form.cleaned_data["reason"])
        return None
    context = {
        **page.admin_site.each_context(request),
        "title": title,
        "about": about,
        "form": dress(form),
        "rows": list(rows[:50]),
        "kept": [("action", action), *((ACTION_CHECKBOX_NAME, pk) for pk in request.POST.getlist(ACTION_CHECKBOX_NAME))]
        + [("select_across", value) for value in request.POST.getlist("select_across")[:1]],
        "back": request.get_full_path(),
        "opts": page.opts,
    }
    return TemplateResponse(request, TEMPLATE, context, status=422 if form.errors else 200)
