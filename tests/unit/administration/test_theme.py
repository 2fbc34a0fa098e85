"""The admin's look: what we replaced of unfold's is what we know, and its files are among those that are served."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import unfold
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.template.loader import get_template
from django.test import Client

from administration import theme
from administration.apps import plain_json

ROOT = Path(unfold.__file__).parent / "templates"
# Of the version that ours were made from. When unfold changes one, compare, bring ours up to date, and note it here.
REPLACED = {
    "unfold/layouts/skeleton.html": "66af9f0bb45f98ba",
    "unfold/helpers/welcomemsg.html": "e8eab02522ba2319",
    "admin/actions.html": "b5332aace8e69192",
    "admin/change_form_object_tools.html": "3238ce11ac58a883",
    "unfold/helpers/header_title.html": "b126ed2ab9ca1680",
    "admin/search_form.html": "32c57965802858bd",
    "admin/object_history.html": "276be0d3eb1c5eaa",
}


@pytest.mark.parametrize("name", REPLACED)
def test_a_template_that_we_replaced_is_still_the_one_that_we_know(name: str, settings: Any) -> None:
    theirs = (ROOT / name).read_bytes()

    assert hashlib.sha256(theirs).hexdigest()[:16] == REPLACED[name]
    assert str(get_template(name).origin).startswith(str(settings.BASE_DIR / "templates"))  # type: ignore[attr-defined]


def test_unfolds_files_are_collected_under_names_with_a_hash(settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "portal.static.HashedStaticFilesStorage"},
    }

    settings.WHITENOISE_SKIP_COMPRESS_EXTENSIONS = ["css", "js", "svg", "woff2", "png", "gif", "txt", "md", "map", ""]

    call_command("collectstatic", interactive=False, verbosity=0)

    names = json.loads((tmp_path / "staticfiles.json").read_text())["paths"]
    for name in (
        "unfold/css/styles.css",
        "unfold/js/app.js",
        "unfold/fonts/material-symbols/styles.css",
        "alpine/cdn.min.js",
        "berth/admin.css",
        "berth/admin.js",
    ):
        assert names[name] != name
        assert (tmp_path / names[name]).exists(), name


def test_alpine_is_the_build_that_evaluates_no_strings() -> None:
    found = finders.find("alpine/cdn.min.js")
    assert found

    text = Path(str(found)).read_text()

    assert "is prohibited in the CSP build" in text
    assert "new AsyncFunction(" not in text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"DEBUG": True}, "Development"),
        ({"INSECURE_HTTP": True, "BERTH_BASE_URL": "http://lab.example:8000"}, "lab.example, plain HTTP"),
        ({"INSECURE_HTTP": False, "BERTH_BASE_URL": "https://berth.example.org"}, "berth.example.org"),
    ],
)
def test_every_page_says_where_one_is(values: dict[str, Any], said: str, settings: Any, rf: Any) -> None:
    settings.DEBUG = settings.INSECURE_HTTP = False
    for name, value in values.items():
        setattr(settings, name, value)

    assert theme.environment(rf.get("/admin/"))[0] == said


def test_json_is_shown_as_text_and_escaped() -> None:
    assert "&lt;b&gt;" in plain_json({"a": "<b>"}, None)
    assert "style=" not in plain_json({"a": 1}, None)


@pytest.mark.django_db
def test_the_start_page_has_every_group(desk: Client) -> None:
    page = desk.get("/admin/").content.decode()

    for group in ("People", "Catalogue", "Reservations", "Machines", "Money", "Monitoring"):
        assert f"<h2>{group}</h2>" in page
    assert 'href="/monitor/"' in page
