"""The way to a page of the admin, which stands above it: a template library that settings name."""

from typing import Any

from django import template
from django.urls import resolve, reverse
from django.utils.text import capfirst

from administration import navigation

register = template.Library()


@register.filter
def with_group(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Unfold's parts (app, model, row) with the model's group of the sidebar first; a row's name is not capitalised."""
    if len(parts) < 2:
        return parts
    _, model, *row = parts
    app, _, name = (resolve(str(model["link"])).url_name or "").removesuffix("_changelist").partition("_")
    group = {"title": navigation.group_of(f"{app}.{name}"), "link": reverse("admin:index")}
    return [group, model | {"title": capfirst(model["title"])}, *row]
