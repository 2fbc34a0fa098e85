"""The admin's one site."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from unfold.sites import UnfoldAdminSite

from administration import navigation


class BerthAdminSite(UnfoldAdminSite):
    """Unfold's look; our groups instead of Django's apps, and no deleting of many rows at once."""

    site_title = site_header = "Berth"
    index_title = "Administration"
    index_template = "admin/start.html"

    def __init__(self, name: str = "admin") -> None:
        super().__init__(name)
        self.disable_action("delete_selected")  # it writes outside of a transaction, and asks nobody

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = {"groups": navigation.groups(request), **(extra_context or {})}
        answer: HttpResponse = super().index(request, context)
        return answer
