"""Trouble in the real lab is told by one mail, and by one more when it is over.

The mails are files in the stack's folder; the admin of the lab gets an address for the time of this module.
"""

import email
import re
import secrets
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import policy

import celery
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from lab import Lab
from tests.integration.desk import Desk
from tests.live import RunningStack, wait_for

TOLD_WITHIN_S = 45  # the promise for an engine
LINE = re.compile(r"^(CRITICAL|WARNING|OVER): (.+)$", re.MULTILINE)
CERTIFICATE = "/etc/docker/tls/cert.pem"
SHORT_S = 25


@dataclass
class Mails:
    """What the admin was mailed since the module began."""

    stack: RunningStack
    address: str
    read: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """As "CRITICAL: node1 is down", in the order of the mails."""
        for path in sorted((self.stack.stack.layout.var / "mail").iterdir()):
            if path.name not in self.read:
                text = path.read_text()
                if text.rstrip().endswith("-" * 79):  # it is written whole
                    self.read[path.name] = text
        found = []
        for text in self.read.values():
            mail = email.message_from_string(text, policy=policy.default)
            if mail["To"] == self.address:
                found += [f"{word}: {what}" for word, what in LINE.findall(mail.get_body().get_content())]  # type: ignore[union-attr]
        return found

    def wait(self, line: str, seconds: float = 60) -> float:
        """How many seconds it took until such a line came."""
        begin = time.monotonic()
        wait_for(lambda: self.count(line), seconds=seconds, interval=0.5)
        return time.monotonic() - begin

    def count(self, line: str) -> int:
        return sum(one.startswith(line) for one in self.lines())


@pytest.fixture(scope="module")
def mails(stack: RunningStack, customer_desk: Desk) -> Iterator[Mails]:
    address = f"alerts-{secrets.token_hex(4)}@example.org"
    before = customer_desk.sql("SELECT id, email FROM accounts_user WHERE is_superuser")
    customer_desk.sql("UPDATE accounts_user SET email = %s WHERE id = %s", address, before[0][0])
    yield Mails(stack, address)
    customer_desk.sql("UPDATE accounts_user SET email = %s WHERE id = %s", before[0][1], before[0][0])


@pytest.fixture(autouse=True)
def _well(desk: Desk, mails: Mails) -> Iterator[None]:
    """Nothing is open before, and what this broke is over after."""
    wait_for(lambda: not _open(desk), seconds=90)
    yield
    wait_for(lambda: not _open(desk), seconds=90)


def _open(desk: Desk) -> list[tuple[object, ...]]:
    return desk.sql("SELECT kind, name FROM monitoring_incident WHERE closed_at IS NULL")


def test_a_stopped_engine_and_a_flushed_gateway_are_told_and_told_to_be_over(
    desk: Desk, lab: Lab, mails: Mails
) -> None:
    first, second = (node.name for node in lab.info.nodes)
    gateway = str(desk.sql("SELECT name FROM compute_gateway WHERE driver = 'iptables'")[0][0])
    desk.sql("UPDATE compute_node SET state = 'cordoned' WHERE name = %s", first)
    runs = desk.running("nginx", size="tiny")
    desk.sql("UPDATE compute_node SET state = 'active' WHERE name = %s", first)
    assert runs["node"] == second

    lab.kill_daemon(first, "dockerd", signal.SIGSTOP)
    try:
        lab.exec("gateway", ["sh", "-c", "iptables -t nat -F BERTH-DNAT; iptables -F BERTH-FORWARD"])
        told = mails.wait(f"CRITICAL: The engine of {first} hangs")
        mails.wait(f"WARNING: Somebody changed the rules of the gateway {gateway}")
    finally:
        lab.kill_daemon(first, "dockerd", signal.SIGCONT)
    back = mails.wait(f"OVER: The engine of {first} answers again", seconds=90)
    assert told <= TOLD_WITHIN_S
    assert back <= TOLD_WITHIN_S
    wait_for(lambda: desk.fetch(runs) == "200", seconds=30)

    mails.wait(f"OVER: The rules of the gateway {gateway}", seconds=100)
    wait_for(lambda: not _open(desk), seconds=60)
    for line in (
        f"CRITICAL: The engine of {first} hangs",
        f"OVER: The engine of {first}",
        f"WARNING: Somebody changed the rules of the gateway {gateway}",
        f"OVER: The rules of the gateway {gateway}",
    ):
        assert mails.count(line) == 1, mails.lines()
    assert not desk.sql("SELECT 1 FROM monitoring_delivery WHERE sent_at IS NULL")


def test_a_worker_that_is_stopped_is_missed_by_beat(desk: Desk, stack: RunningStack, mails: Mails) -> None:
    stack.stop("worker")
    try:
        mails.wait("CRITICAL: No worker is running")
        listed = stack.run_manage("alerts", check=False)
        assert listed.returncode == 1
        assert "No worker is running" in listed.stdout
    finally:
        stack.start("worker")
        stack.wait_ready()
    mails.wait("OVER: A worker is running again")

    assert mails.count("CRITICAL: No worker is running") == 1
    assert stack.run_manage("alerts").stdout.startswith("Nothing is wrong")


def test_a_certificate_near_its_end_and_past_it(desk: Desk, lab: Lab, stack: RunningStack, mails: Mails) -> None:
    name = lab.info.nodes[0].name
    kept = lab.exec(name, ["cat", CERTIFICATE]).stdout
    _put_certificate(lab, name, _short(lab, kept))
    try:
        _look_at_certificates(stack)
        mails.wait(f"WARNING: The certificate of {name} is near its end")
        mails.wait(f"CRITICAL: The certificate of {name} has expired", seconds=SHORT_S + 30)
    finally:
        _put_certificate(lab, name, kept)
        wait_for(lambda: desk.sql("SELECT 1 FROM compute_node WHERE health = 'ok' AND name = %s", name), seconds=60)
        _look_at_certificates(stack)
    mails.wait(f"OVER: {name} has a good certificate", seconds=90)
    mails.wait(f"OVER: The certificate of {name} is good for long again", seconds=90)

    for line in ("is near its end", "has expired"):
        assert sum(line in one and not one.startswith("OVER") for one in mails.lines()) == 1, mails.lines()


def _short(lab: Lab, pem: str) -> str:
    """The same certificate, by the same authority, until in half a minute."""
    old, authority = x509.load_pem_x509_certificate(pem.encode()), lab.store.secrets / "authority"
    issuer = x509.load_pem_x509_certificate((authority / "ca.pem").read_bytes())
    key = serialization.load_pem_private_key((authority / "ca-key.pem").read_bytes(), None)
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(issuer.subject, old.subject, old.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(seconds=SHORT_S))
    for extension in old.extensions:
        if not isinstance(extension.value, x509.SubjectKeyIdentifier | x509.AuthorityKeyIdentifier):
            made = made.add_extension(extension.value, extension.critical)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()  # type: ignore[arg-type]


def _put_certificate(lab: Lab, node: str, pem: str) -> None:
    """The engine reads it when it starts."""
    lab.exec(node, ["sh", "-c", f"cat >{CERTIFICATE}"], input=pem)
    lab.kill_daemon(node, "dockerd", signal.SIGTERM)
    lab.start_daemon(node, "dockerd")


def _look_at_certificates(stack: RunningStack) -> None:
    """The workers look every minute; the test does not wait for that."""
    with celery.Celery(broker=stack.env["REDIS_URL"].replace("unix:", "redis+socket:")) as queue:
        queue.send_task("compute.tasks.check_guards")
