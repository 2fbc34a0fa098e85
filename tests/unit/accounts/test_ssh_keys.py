"""SSH keys: what is taken, what is refused and in which words, and what containers get of them."""

import base64
import logging
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from django.test import Client

from accounts import ssh_keys
from accounts.models import AuditEntry, Membership, SshKey, User
from reservations import starting
from tests.factories import PASSWORD, make_node, make_reservation, make_service, make_team, make_user
from tests.unit.accounts.conftest import log_in

NEW = "/accounts/keys/new/"


def public(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode())


def fresh(comment: str = "") -> str:
    return f"{public(ed25519.Ed25519PrivateKey.generate())} {comment}".strip()


def a_security_key() -> str:
    def part(text: bytes) -> bytes:
        return len(text).to_bytes(4, "big") + text

    raw = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    blob = part(b"sk-ssh-ed25519@openssh.com") + part(raw) + part(b"ssh:")
    return f"sk-ssh-ed25519@openssh.com {base64.b64encode(blob).decode()}"


RSA = rsa.generate_private_key(65537, 2048)
KINDS: dict[str, Callable[[], str]] = {
    "ed25519": fresh,
    "rsa": lambda: public(RSA),
    "ecdsa": lambda: public(ec.generate_private_key(ec.SECP384R1())),
    "security key": a_security_key,
}
PRIVATE = {
    "OpenSSH": ed25519.Ed25519PrivateKey.generate()
    .private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    .decode(),
    "PKCS1": RSA.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode(),
    "PKCS8": RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
    "PuTTY": "PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 1\nAAAAsecret",
    "with its public half": f"{fresh()}\n-----BEGIN OPENSSH PRIVATE KEY-----\nAAAAsecret",
}


# ---- reading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_fingerprint_is_what_ssh_keygen_prints(kind: str, tmp_path: Path) -> None:
    line = KINDS[kind]()
    file = tmp_path / "key.pub"
    file.write_text(f"{line} me@laptop\n")

    (key,) = ssh_keys.parse(file.read_text())

    told = subprocess.run(["ssh-keygen", "-l", "-f", str(file)], capture_output=True, text=True, check=True).stdout
    assert told.split()[1] == key.fingerprint
    assert (key.public_key, key.name) == (line, "me@laptop")


def test_several_lines_with_comments_and_windows_ends() -> None:
    one, two = fresh("one"), fresh("two  words")

    found = ssh_keys.parse(f"\ufeff# my keys\r\n\r\n  {one}\r\n{two}\r\n{one}\r\n")

    assert [key.name for key in found] == ["one", "two words"]


@pytest.mark.parametrize(
    ("comment", "name"),
    [
        ("", "Ed25519 key"),
        ("\x07\u202e", "Ed25519 key"),
        ("a\0b", "ab"),
        ("🔑" * 500, "🔑" * 80),
        ("<script>", "<script>"),
    ],
)
def test_the_comment_becomes_a_name_that_can_be_shown(comment: str, name: str) -> None:
    assert ssh_keys.parse(fresh(comment))[0].name == name


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "Paste a public key"),
        ("# nothing\n\n", "Paste a public key"),
        ("hello", "not a public key"),
        ("ssh-ed25519", "not a public key"),
        ("ssh-ed25519 AAAA", "not a whole public key"),
        ("ssh-ed25519 ****", "not a whole public key"),
        ("ssh-ed25519 ÄÖÜ", "not a whole public key"),
        (fresh()[:-9], "not a whole public key"),
        (f"ssh-rsa {fresh().split()[1]}", "not a whole public key"),
        (f'command="rm -rf /" {fresh()}', "Options before a key"),
        ("SHA256:nThbg6kXUpJWGl7E1IGOCspRomTxdCARLviKw6E5SY8", "This is a fingerprint"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "This is a certificate"),
        ("ssh-dss AAAA", "DSA keys are not taken"),
        ("x" * 100_001, "too long"),
        ("\n".join(["ssh-ed25519 AAAA"] * 3), "Line 1: This is not a whole"),
        ("\n".join(fresh() for _ in range(21)), "21 lines"),
        ("🔑" * 500, "not a public key"),
        ("\0", "not a public key"),
    ],
)
def test_what_is_no_key_is_told(text: str, sentence: str) -> None:
    with pytest.raises(ssh_keys.BadKeys, match=sentence):
        ssh_keys.parse(text)


def test_a_dsa_key_is_refused() -> None:
    key = dsa.generate_private_key(1024)  # noqa: S505 - which is what is refused
    numbers = key.public_key().public_numbers()

    def mpint(number: int) -> bytes:
        raw = number.to_bytes(number.bit_length() // 8 + 1, "big")
        return len(raw).to_bytes(4, "big") + raw

    group = numbers.parameter_numbers
    blob = b"\0\0\0\7ssh-dss" + b"".join(mpint(number) for number in (group.p, group.q, group.g, numbers.y))
    with pytest.raises(ssh_keys.BadKeys, match="DSA"):
        ssh_keys.parse(f"ssh-dss {base64.b64encode(blob).decode()}")


def test_a_short_rsa_key_is_refused() -> None:
    with pytest.raises(ssh_keys.BadKeys, match="1024 bits is too short"):
        ssh_keys.parse(public(rsa.generate_private_key(65537, 1024)))  # noqa: S505


@pytest.mark.parametrize("kind", PRIVATE)
def test_a_private_key_is_refused_before_all_else(kind: str) -> None:
    with pytest.raises(ssh_keys.PrivateKey, match="This is a private key"):
        ssh_keys.parse(PRIVATE[kind])


# ---- pages ------------------------------------------------------------------------------------------------


@pytest.fixture
def ada() -> User:
    return make_user("ada")


@pytest.fixture
def browser(ada: User) -> Client:
    """Logged in, and confirmed a moment ago."""
    client = Client()
    log_in(client, ada)
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    return client


@pytest.mark.django_db
def test_a_key_is_added_shown_and_removed(browser: Client, ada: User) -> None:
    assert "No keys" in browser.get("/accounts/keys/").content.decode()

    answer = browser.post(NEW, {"keys": fresh("me@laptop")}, follow=True)

    key = SshKey.objects.get(user=ada)
    page = answer.content.decode()
    assert "me@laptop" in page
    assert key.fingerprint in page
    where = f"/accounts/keys/{key.pk}/remove/"
    assert key.fingerprint in browser.get(where).content.decode()
    browser.post(where)
    assert not SshKey.objects.exists()
    assert browser.post(where).status_code == 404
    done = AuditEntry.objects.filter(action__startswith="ssh_key.").order_by("pk").values_list("action", flat=True)
    assert list(done) == ["ssh_key.add", "ssh_key.remove"]


@pytest.mark.django_db
@pytest.mark.parametrize("kind", PRIVATE)
def test_a_private_key_is_in_no_answer_log_or_row(kind: str, browser: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    answer = browser.post(NEW, {"keys": PRIVATE[kind]})

    page = answer.content.decode()
    assert "This is a private key" in page
    secret = PRIVATE[kind].splitlines()[2]
    assert secret not in page
    assert secret not in caplog.text
    assert secret not in str(list(AuditEntry.objects.values()))
    assert not SshKey.objects.exists()


@pytest.mark.django_db
def test_what_was_typed_stays_when_it_is_wrong_and_nothing_is_kept(browser: Client) -> None:
    text = f"{fresh('good')}\nssh-ed25519 AAAA bad"

    answer = browser.post(NEW, {"keys": text})

    assert "Line 2" in str(answer.context["form"].errors["keys"])
    assert "AAAA bad" in answer.content.decode()
    assert not SshKey.objects.exists()


@pytest.mark.django_db
def test_the_same_key_twice_is_told(browser: Client) -> None:
    key = fresh()
    browser.post(NEW, {"keys": key})

    answer = browser.post(NEW, {"keys": f"{fresh()}\n{key} another name"})

    assert "already" in str(answer.context["form"].errors["keys"])
    assert SshKey.objects.count() == 1


@pytest.mark.django_db
def test_two_people_may_have_the_same_key(browser: Client, ada: User) -> None:
    key = fresh()
    ssh_keys.add(user=make_user("eve"), text=key, by="test")

    browser.post(NEW, {"keys": key})

    assert SshKey.objects.filter(user=ada).exists()


@pytest.mark.django_db(transaction=True)
def test_twenty_are_enough(ada: User) -> None:
    ssh_keys.add(user=ada, text="\n".join(fresh() for _ in range(19)), by=ada)

    with pytest.raises(ssh_keys.BadKeys, match="you have 19"):
        ssh_keys.add(user=ada, text=f"{fresh()}\n{fresh()}", by=ada)
    ssh_keys.add(user=ada, text=fresh(), by=ada)
    with pytest.raises(ssh_keys.BadKeys, match="20 keys"):
        ssh_keys.add(user=ada, text=fresh(), by=ada)


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["a\0b", "x" * 100_001, "\u2028"])
def test_odd_texts_are_no_error_of_ours(text: str, browser: Client) -> None:
    answer = browser.post(NEW, {"keys": text})

    assert answer.status_code == 200
    assert answer.context["form"].errors["keys"]


@pytest.mark.django_db
def test_adding_asks_for_the_password_again(ada: User) -> None:
    client = Client()
    log_in(client, ada)

    assert client.post(NEW, {"keys": fresh()})["Location"].startswith("/accounts/reauthenticate/")
    assert not SshKey.objects.exists()


@pytest.mark.django_db
def test_somebody_elses_key_is_not_there(browser: Client) -> None:
    (key,) = ssh_keys.add(user=make_user("eve"), text=fresh("of-eve"), by="test")

    assert browser.post(f"/accounts/keys/{key.pk}/remove/").status_code == 404
    assert "of-eve" not in browser.get("/accounts/keys/").content.decode()
    assert SshKey.objects.exists()


@pytest.mark.django_db
def test_a_list_of_20_asks_the_database_as_often_as_one_of_1(
    browser: Client, ada: User, django_assert_num_queries: Any
) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    counts = []
    for more in (1, 19):
        ssh_keys.add(user=ada, text="\n".join(fresh() for _ in range(more)), by=ada)
        with CaptureQueriesContext(connection) as asked:
            browser.get("/accounts/keys/")
        counts.append(len(asked))
    assert counts[0] == counts[1]


# ---- containers -------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_container_gets_the_keys_without_their_comments(ada: User) -> None:
    one, two = fresh("first\tcomment"), fresh()
    ssh_keys.add(user=ada, text=f"{one}\n{two}", by=ada)

    assert ssh_keys.lines_of(ada) == "\n".join(" ".join(line.split()[:2]) for line in (one, two))
    ada.is_active = False
    assert ssh_keys.lines_of(ada) == ""
    assert ssh_keys.lines_of(None) == ""


@pytest.mark.django_db
def test_who_was_put_out_of_the_workspace_has_no_key_in_what_starts_there(ada: User) -> None:
    make_node()
    crew = make_team("Crew", owner=make_user("olga"), member=ada)
    ssh_keys.add(user=ada, text=fresh(), by=ada)
    service = make_service(environment={"KEYS": "{ssh_keys}"})
    reservation = make_reservation(ada, service=service, workspace=crew)
    container = starting.container_of(reservation)

    assert starting._spec(reservation, container).environment["KEYS"] == ssh_keys.lines_of(ada)
    Membership.objects.filter(workspace=crew, user=ada).delete()

    assert starting._spec(reservation, container).environment["KEYS"] == ""
