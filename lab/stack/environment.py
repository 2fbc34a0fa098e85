"""The portal's environment: what var/NAME/env holds.

The file is written anew at each start from what is known (lab, port, private databases) and from BERTH_…,
DATABASE_URL and REDIS_URL in the caller's environment, which win. Only SECRET_KEY is kept.
"""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lab.stack.errors import StackError
from lab.stack.layout import ACCOUNT, Layout

NOT_SETTINGS = {  # they steer the scripts, or are secrets that belong in no file
    "BERTH_STACK",
    "BERTH_LAB",
    "BERTH_ENV_FILE",
    "BERTH_SUITES",
    "BERTH_TESTING",
    "BERTH_ADMIN_PASSWORD",
}
OUTSIDE_SERVERS = ("DATABASE_URL", "REDIS_URL")
HEADER = "# Written by lab.stack at each start. Set variables in the environment of script/server instead.\n"


def parse(text: str) -> dict[str, str]:
    """KEY=VALUE lines; values are taken as they are, without quotes."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {key.strip(): value.strip() for key, _, value in pairs}


def read(layout: Layout) -> dict[str, str]:
    """The stack's environment; empty when it was never started."""
    try:
        return parse(layout.env_file.read_text())
    except FileNotFoundError:
        return {}


def compose(
    layout: Layout,
    *,
    port: int,
    live_port: int,
    lab: Mapping[str, Any] | None,
    previous: Mapping[str, str],
    fail_points: bool = False,
    caller: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """The environment of the portal. Paths in the checkout are relative: they hold inside and outside."""
    env = {
        "SECRET_KEY": previous.get("SECRET_KEY") or secrets.token_urlsafe(48),
        "DATABASE_URL": f"postgresql://{ACCOUNT}@{quote(str(layout.postgres_sockets), safe='')}/{ACCOUNT}",
        "REDIS_URL": f"unix://{quote(str(layout.redis_socket))}",
        "BERTH_DEBUG": "0",
        "BERTH_BASE_URL": f"http://127.0.0.1:{port}",
        "BERTH_LIVE_LISTEN": f"127.0.0.1:{live_port}",
        "BERTH_LIVE_URL": f"http://127.0.0.1:{live_port}/live/",
        "BERTH_ALLOWED_HOSTS": "127.0.0.1,localhost",
        "BERTH_INSECURE_HTTP": "1",
        "BERTH_MAIL": f"file:var/{layout.name}/mail",
        "BERTH_EMAIL_VERIFICATION": "optional",
        "BERTH_STAFF_MFA": "0",  # the demo's admin logs in with the printed password alone; elsewhere it is on
        "BERTH_RUN_DIR": str(layout.scratch),
    }
    if lab is not None:
        keys = lab["keys"]
        env["BERTH_SSH_KEY"] = _relative(layout, keys["ssh_key"])
        env["BERTH_SSH_KNOWN_HOSTS"] = _relative(layout, keys["known_hosts"])
        env["BERTH_TLS_DIR"] = _relative(layout, keys["tls_dir"])
        env["BERTH_REGISTRY"] = lab["registry"]["address"]
    if fail_points:
        env["BERTH_FAIL_DIR"] = f"var/{layout.name}/{layout.fail_points.name}"
        env["BERTH_SIGNUP_RATE"] = "1000/m/ip"  # every test signs up a customer of its own, all from one address
    for key, value in caller.items():
        if key in OUTSIDE_SERVERS or (key.startswith("BERTH_") and key not in NOT_SETTINGS):
            if "\n" in value:
                raise StackError(f"{key} must be one line")
            env[key] = value
    return env


def render(env: Mapping[str, str]) -> str:
    """The text of the environment file."""
    return HEADER + "".join(f"{key}={value}\n" for key, value in sorted(env.items()))


def load_lab(layout: Layout, name: str) -> dict[str, Any] | None:
    """What the lab says about itself, or None when it is not up."""
    try:
        described = json.loads(layout.lab_file(name).read_text())
    except FileNotFoundError:
        return None
    except ValueError as problem:
        raise StackError(f"{layout.lab_file(name)} cannot be read ({problem}): bring the lab up again") from problem
    if not isinstance(described, dict):
        raise StackError(f"{layout.lab_file(name)} does not describe a lab: bring the lab up again")
    return described


def _relative(layout: Layout, path: str) -> str:
    absolute = layout.repo / path
    if absolute.is_relative_to(layout.repo):
        return str(absolute.relative_to(layout.repo))
    return str(Path(path))
