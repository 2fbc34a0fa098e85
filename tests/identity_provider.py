"""A real OpenID Connect provider on this machine: `python -m tests.identity_provider PORT CALLBACK`.

canaille (from PyPI) keeps people and groups, asks for their password and consent, and signs the tokens. What is ours is
the one client, the people, and `/_config/person`, by which a test changes somebody.
"""

import datetime
import sys
from typing import Any

from canaille import create_app  # type: ignore[import-untyped]
from canaille.app import models  # type: ignore[import-untyped]
from canaille.backends import Backend  # type: ignore[import-untyped]
from canaille.backends.memory.backend import MemoryBackend  # type: ignore[import-untyped]
from flask import Flask, request
from werkzeug.serving import run_simple

CLIENT_ID, CLIENT_SECRET = "berth", "a-secret-of-the-tests"
PASSWORD = "correct horse battery"
# User name: e-mail address, whether it was checked, groups.
PEOPLE: dict[str, tuple[str, bool, list[str]]] = {
    "marie": ("marie@example.org", True, ["physics"]),
    "pierre": ("pierre@example.org", False, []),
    "lise": ("lise@example.org", True, ["physics", "physics-staff"]),
}
# canaille itself tells of no address whether it was checked; its title says so here.
VERIFIED = "{% if user.title == 'checked' %}true{% endif %}"


def config(port: int) -> dict[str, Any]:
    return {
        "SECRET_KEY": "of the tests",
        "SERVER_NAME": f"127.0.0.1:{port}",
        "PREFERRED_URL_SCHEME": "http",
        "SESSION_COOKIE_NAME": "canaille",
        "CANAILLE": {"DATABASE": "memory", "JAVASCRIPT": False, "SMTP": None},
        "CANAILLE_OIDC": {"TRUSTED_DOMAINS": []},
    }


def fill(app: Flask, callback: str) -> None:
    for name, (email, checked, _) in PEOPLE.items():
        user = models.User(
            user_name=name,
            formatted_name=name.title(),
            given_name=name.title(),
            family_name="Curie",
            display_name=name,
            emails=[email],
            title="checked" if checked else "",
        )
        Backend.instance.save(user)
        Backend.instance.set_user_password(user, PASSWORD)
    for name, (_, _, groups) in PEOPLE.items():
        set_groups(name, groups)
    client = models.Client(
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        client_name="Berth",
        client_uri="http://berth.test",
        redirect_uris=[callback],
        grant_types=["authorization_code"],
        response_types=["code"],
        scope=["openid", "profile", "email", "groups"],
        token_endpoint_auth_method="client_secret_post",
        client_id_issued_at=datetime.datetime.now(datetime.UTC),
    )
    Backend.instance.save(client)
    client.audience = [client]
    Backend.instance.save(client)


def set_groups(name: str, groups: list[str]) -> None:
    user = Backend.instance.get(models.User, user_name=name)
    for group in Backend.instance.query(models.Group):
        if group.display_name not in groups and user in group.members:
            group.members = [member for member in group.members if member != user]
            Backend.instance.save(group)
    for wanted in groups:
        group = Backend.instance.get(models.Group, display_name=wanted) or models.Group(display_name=wanted, members=[])
        group.members = [member for member in group.members if member != user] + [user]
        Backend.instance.save(group)


def find_what_fits_whole() -> None:
    """Mend canaille's memory: asked for the code X of the client Y it finds all codes of Y, and the grant takes any."""
    by_one = MemoryBackend.do_query

    def by_all(self: Any, model: Any, *args: Any, **wanted: Any) -> list[Any]:
        found: list[Any] = by_one(self, model, *args, **wanted)
        for name, value in wanted.items() if len(wanted) > 1 else ():
            fitting = {row.id for row in by_one(self, model, **{name: value})}
            found = [row for row in found if row.id in fitting]
        return found

    MemoryBackend.do_query = by_all


def main(port: int, callback: str) -> None:
    find_what_fits_whole()
    app = create_app(config(port))
    app.config["CANAILLE_OIDC"]["USERINFO_MAPPING"]["EMAIL_VERIFIED"] = VERIFIED

    @app.post("/_config/person")
    def change() -> dict[str, bool]:
        told = request.get_json()
        set_groups(told["name"], told["groups"])
        for left in Backend.instance.query(models.Consent):  # everybody is asked for it again
            Backend.instance.delete(left)
        return {"done": True}

    app.extensions["csrf"].exempt(change)
    with app.app_context():
        fill(app, callback)
    run_simple("127.0.0.1", port, app, threaded=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
