"""The admin's one site."""

from typing import TYPE_CHECKING, Any

from django.http import HttpRequest
from django.template.response import TemplateResponse

from administration import navigation

if TYPE_CHECKING:  # unfold has no types; its site is Django's
    from django.contrib.admin import AdminSite
else:
    from unfold.sites import UnfoldAdminSite as AdminSite


class BerthAdminSite(AdminSite):
    """Unfold's look; our groups instead of Django's apps, and no deleting of many rows at once."""

    site_title = site_header = "Berth"
    index_title = "Administration"
    index_template = "admin/start.html"

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        self.disable_action("delete_selected")  # it writes outside of a transaction, and asks nobody

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        context = {"groups": navigation.groups(request), **(extra_context or {})}
        return super().index(request, context)
