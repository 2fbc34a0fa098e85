"""Drift on the page of the monitor: seen on the real machines, mended by its buttons, and gone.

Beat rests meanwhile, so that no round mends it first; the worker looks.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import requests

from lab import Lab
from tests.integration.desk import Desk
from tests.live import RunningStack, sign_up, wait_for

NAT = ["iptables", "-w", "5", "-t", "nat"]


@dataclass
class Admin:
    """Somebody who may change nodes, in a browser without scripts."""

    base: str
    session: requests.Session

    def page(self) -> str:
        answer = self.session.get(f"{self.base}/monitor/drift/", timeout=30)
        answer.raise_for_status()
        return " ".join(answer.text.split()).replace("&#x27;", "'")

    def post(self, path: str, **form: str) -> str:
        """What the page says after it."""
        token = {"csrfmiddlewaretoken": self.session.cookies["csrftoken"]}
        address = f"{self.base}/monitor/drift/{path}/"
        answer = self.session.post(address, form | token, headers={"Referer": address}, timeout=60)
        answer.raise_for_status()
        return " ".join(answer.text.split())

    def look(self) -> str:
        """The page once every machine was looked at."""
        self.post("look")
        wait_for(lambda: "drift-progress" not in self.page(), seconds=60)
        return self.page()

    def mend(self, page: str, sentence: str) -> str:
        """Press the button of the row that says so."""
        row = next(row for row in re.findall(r"<tr id=.*?</tr>", page) if sentence in row)
        found = re.search(r'name="key" value="([0-9a-f]+)"', row)
        assert found, row
        return self.post("mend", key=found[1])


@pytest.fixture
def admin(stack: RunningStack, desk: Desk) -> Iterator[Admin]:
    person = sign_up(stack.base_url)
    desk.sql("UPDATE accounts_user SET is_staff = true, is_superuser = true WHERE username = %s", person.username)
    with requests.Session() as session:
        session.trust_env = False
        address = f"{stack.base_url}/accounts/login/"
        session.get(address, timeout=30).raise_for_status()
        form = {"login": person.username, "password": person.password}
        form["csrfmiddlewaretoken"] = session.cookies["csrftoken"]
        session.post(address, form, headers={"Referer": address}, timeout=30).raise_for_status()
        yield Admin(stack.base_url, session)


def test_a_flushed_gateway_and_a_stray_container_are_seen_and_mended_by_their_buttons(
    stack: RunningStack, lab: Lab, desk: Desk, admin: Admin
) -> None:
    over, kept = desk.running("nginx", size="tiny"), desk.running("nginx", size="tiny")
    node, stray = str(over["node"]), desk.container(over["id"])
    inspect = ["docker", "inspect", "-f", "{{.Image}}", stray]
    image = lab.exec(node, inspect).stdout.strip()
    desk.delete_and_wait(over["id"])
    stack.stop("beat")
    try:
        label = ["--label", f"berth.reservation={over['id']}", "--label", "berth.expires_at=2099-01-01T00:00:00+00:00"]
        lab.exec(node, ["docker", "run", "-d", "--name", stray, *label, image, "sleep", "600"])
        lab.exec("gateway", [*NAT, "-F", "BERTH-DNAT"])
        [[port]] = desk.sql(
            "SELECT f.public_port FROM compute_forward f JOIN reservations_endpoint e ON e.forward_id = f.id"
            " WHERE e.reservation_id = %s",
            kept["id"],
        )
        rule, owner = f"--dport {port} -j DNAT", f"{stray} carries Berth's label"

        page = admin.look()
        seen = (rule in page, owner in page)
        rules_said = admin.mend(page, rule)
        early = admin.mend(page, owner)
        still = stray in lab.exec(node, ["docker", "ps", "--format", "{{.Names}}"]).stdout.split()
        desk.sql("UPDATE reservations_orphan SET first_seen_at = first_seen_at - interval '61 seconds'")
        stray_said = admin.mend(page, owner)
        healed = admin.look()

        assert seen == (True, True)
        assert "Applied the rules of" in rules_said
        assert rule in lab.exec("gateway", [*NAT, "-S", "BERTH-DNAT"]).stdout
        assert "was first seen a moment ago" in early
        assert still
        assert f"Removed {stray} from {node}." in stray_said
        assert stray not in lab.exec(node, ["docker", "ps", "-a", "--format", "{{.Names}}"]).stdout.split()
        assert "No difference" in healed, healed
        [[deeds]] = desk.sql("SELECT count(*) FROM accounts_auditentry WHERE action = 'drift.mend'")
        assert deeds >= 2
    finally:
        lab.exec(node, ["docker", "rm", "-f", stray], check=False)
        stack.start("beat")
        stack.wait_ready()
