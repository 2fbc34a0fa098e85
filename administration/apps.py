import json
from typing import Any

from django.contrib.admin.apps import AdminConfig
from django.utils.html import format_html


class BerthAdminConfig(AdminConfig):
    """Django's admin with our own site, so that nobody swaps it later."""

    default_site = "administration.site.BerthAdminSite"

    def ready(self) -> None:
        from unfold import fields

        fields.prettify_json = plain_json  # unfold's paints with inline styles, which our policy forbids
        super().ready()


def plain_json(value: Any, encoder: Any) -> str:
    return format_html('<pre class="berth-json">{}</pre>', json.dumps(value, indent=2, sort_keys=True, cls=encoder))
