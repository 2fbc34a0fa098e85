"""Command line of the screenshots; see `python -m tests.screenshots --help`."""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import Browser, BrowserContext, Error, Page, sync_playwright

from lab.stack.layout import REPO
from lab.stack.stack import Stack
from tests.bench.ground import use_django
from tests.screenshots.addresses import Picture, pictures
from tests.screenshots.furniture import furnish

if TYPE_CHECKING:
    from accounts.models import User

VIEWS = {"wide": (1280, 900), "phone": (360, 780)}
THEMES = ("light", "dark")
LARGEST_HEIGHT = 6000
NO_RELOGIN_S = 3600  # no page asks for the password again while the pictures are taken


def main() -> int:
    options = _options()
    stack = Stack(options.stack)
    if not stack.status().running:
        print(f"screenshots: there is no stack {options.stack}: run script/screenshots", file=sys.stderr)
        return 1
    use_django(stack)
    folder: Path = options.folder
    if not options.prefixes:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    life = furnish(stack)
    # Before the browser: its loop and Django's database do not go together in one thread.
    shown = [(_session(picture.viewer), picture) for picture in pictures(life)]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu", "--no-proxy-server"]
        )
        for session, picture in shown:
            if not options.prefixes or picture.name.startswith(tuple(options.prefixes)):
                _take(chromium, stack.base_url, session, picture, folder)
        chromium.close()
    _write_index(folder)
    print(f"{len(list(folder.glob('*.png')))} pictures: {folder / 'index.html'}")
    return 0


def _take(browser: Browser, base: str, session: tuple[str, str] | None, picture: Picture, folder: Path) -> None:
    """Wide and as on a telephone, light and dark; what leads elsewhere, or is not there for them, is no page."""
    for view, (width, height) in VIEWS.items():
        with _context(browser, base, session, width, height) as context:
            page = context.new_page()
            try:
                answer = page.goto(picture.path)
            except Error as problem:
                if "Download is starting" not in problem.message:
                    raise
                print(f"{picture.path}: a file; say so in NOT_SHOWN", flush=True)
                return
            at = page.url.removeprefix(base)
            if answer is None or not answer.ok or at.partition("?")[0] != picture.path.partition("?")[0]:
                print(f"{picture.path}: no page ({answer.status if answer else 'no answer'}, {at})", flush=True)
                return
            for theme in THEMES:
                _picture(page, theme, height, folder / f"{picture.name}-{view}-{theme}.png")
    print(picture.path, flush=True)


def _picture(page: Page, theme: str, height: int, file: Path) -> None:
    page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    page.wait_for_load_state("networkidle")
    whole = int(page.evaluate("document.documentElement.scrollHeight"))
    page.set_viewport_size({"width": page.viewport_size["width"], "height": min(max(whole, height), LARGEST_HEIGHT)})  # type: ignore[index]  # it has one
    page.screenshot(path=file, animations="disabled")  # not half-way between two colours


@contextmanager
def _context(
    browser: Browser, base: str, session: tuple[str, str] | None, width: int, height: int
) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=base, viewport={"width": width, "height": height})
    if session:
        context.add_cookies([{"name": session[0], "value": session[1], "url": base}])
    try:
        yield context
    finally:
        context.close()


def _session(who: "User | None") -> tuple[str, str] | None:
    """The cookie with which this person is logged in, with a note as the log-in page makes it: just now."""
    from django.conf import settings
    from django.test import Client

    if who is None:
        return None
    client = Client()
    client.force_login(who, backend="django.contrib.auth.backends.ModelBackend")
    session = client.session
    proof = {"method": "password", "at": time.time() + NO_RELOGIN_S, "reauthenticated": True}
    session["account_authentication_methods"] = [proof]
    session["account_authentication_methods_user"] = str(who.pk)
    session.save()
    name = settings.SESSION_COOKIE_NAME
    return name, client.cookies[name].value


def _write_index(folder: Path) -> None:
    names = sorted({file.name.rsplit("-", 2)[0] for file in folder.glob("*.png")})
    parts = []
    for name in names:
        pictures = "".join(
            f'<a href="{file.name}"><img src="{file.name}" height="420" alt="{file.stem}"></a> '
            for file in sorted(folder.glob(f"{name}-*-*.png"), reverse=True)
            if file.name.rsplit("-", 2)[0] == name
        )
        parts.append(f"<h2>{name}</h2><p>{pictures}</p>")
    head = '<!DOCTYPE html><meta charset="utf-8"><title>Berth</title><style>body{font:16px sans-serif}</style>'
    (folder / "index.html").write_text(head + "\n".join(parts) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.screenshots",
        description="Pictures of every page of a running stack, with demo data in it.",
    )
    parser.add_argument("prefixes", nargs="*", metavar="NAME", help="only those whose name begins so (default: all)")
    parser.add_argument("--stack", default=os.environ.get("BERTH_STACK", "shots"), help="its name (%(default)s)")
    parser.add_argument("--folder", type=Path, default=REPO / "var/screenshots", help="where to (var/screenshots)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
