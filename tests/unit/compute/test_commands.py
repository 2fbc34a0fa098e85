"""The operator's commands: what they print, what they refuse."""

import json
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts.models import ApiToken, AuditEntry, User
from compute.models import Gateway, Node
from tests.factories import make_gateway, make_node, make_reservation, make_user
from tests.unit.conftest import Machines

pytestmark = pytest.mark.django_db


def run(*words: str) -> str:
    out = StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


# ---- gateways and nodes -----------------------------------------------------------------------------------

GATEWAY = ["add_gateway", "gate", "--public-address=198.18.0.1", "--private-subnet=10.99.0.0/24", "--ssh=root@gate"]
NODE = ["add_node", "one", "--gateway=gate", "--address=10.99.0.11", "--engine=tcp://10.99.0.11:2376"]


def test_a_gateway_is_added_once_and_brought_up_to_date() -> None:
    first, again = run(*GATEWAY), run(*GATEWAY)
    changed = run(*GATEWAY, "--ports=30000-30009")

    assert ("added" in first, "is up to date" in again, "is up to date" in changed) == (True, True, True)
    assert Gateway.objects.get().port_first == 30_000
    assert AuditEntry.objects.filter(action__startswith="gateway.").count() == 2


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--ports=many", "must look like 20000-29999"),
        ("--ports=20000", "must look like 20000-29999"),
        ("--ports=30000-20000", "range within 1024 to 65535"),
        ("--ports=80-90", "1024"),
        ("--ports=20000-70000", "65535"),
        ("--ports=20000-99999999999", "65535"),
        ("--public-address=berth.example.org", "IPv4"),
        ("--private-subnet=10.99.0.1/24", "host bits"),
        ("--private-subnet=", "IPv4"),
        ("--ssh=-oProxyCommand=x", "must not begin with a dash"),
    ],
)
def test_a_gateway_that_cannot_be_is_refused(option: str, sentence: str) -> None:
    with pytest.raises(CommandError, match=sentence):
        run(*GATEWAY, option)

    assert not Gateway.objects.exists()


@pytest.mark.parametrize("subnet", ["10.99.0.0/255.255.255.0", "10.99.0.0/24"])
def test_a_subnet_is_kept_as_iptables_prints_it(subnet: str) -> None:
    run(*GATEWAY, f"--private-subnet={subnet}")

    assert Gateway.objects.get().private_subnet == "10.99.0.0/24"


def test_a_node_lends_what_its_engine_has_less_a_reserve(machines: Machines) -> None:
    make_gateway()

    said = run(*NODE)

    row = Node.objects.get()
    assert "lends 7373 MiB and 8 cores" in said
    assert (row.ram_mib, row.cores, row.engine_version) == (7373, Decimal(8), "20.10.24")


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--gateway=nowhere", "There is no gateway 'nowhere'"),
        ("--cores=many", "must be a number"),
        ("--cores=nan", "must be a number"),
        ("--cores=inf", "must be a number"),
        ("--cores=-1", "must not be negative"),
        ("--ram-mib=-1", "must not be negative"),
        ("--ram-mib=9000", "has 8192 MiB of RAM; it cannot lend 9000"),
        ("--address=-x", "must not begin with a dash"),
        ("--ssh=-oProxyCommand=x", "must not begin with a dash"),
    ],
)
def test_a_node_that_cannot_be_is_refused(option: str, sentence: str, machines: Machines) -> None:
    make_gateway()

    with pytest.raises(CommandError, match=sentence):
        run(*NODE, option)

    assert not Node.objects.exists()


def test_a_node_whose_engine_is_silent_is_refused(machines: Machines) -> None:
    gateway = make_gateway()
    machines.engine(Node(name="one", gateway=gateway)).trouble.silent = True

    with pytest.raises(CommandError, match="its engine cannot be used"):
        run(*NODE)


def test_adding_a_node_whose_disk_is_full_again_gives_it_nothing_new(machines: Machines) -> None:
    make_gateway()
    run(*NODE)
    Node.objects.update(disk_problem="Its disk is nearly full.")

    run(*NODE)

    assert not Node.objects.lending().exists()


def test_adding_a_cordoned_node_again_leaves_it_cordoned(machines: Machines) -> None:
    make_gateway()
    run(*NODE)
    run("cordon", "one")

    run(*NODE, "--ram-mib=4000")

    assert (Node.objects.get().state, Node.objects.get().ram_mib) == ("cordoned", 4000)


@pytest.mark.parametrize(("command", "state"), [("cordon", "cordoned"), ("drain", "draining"), ("uncordon", "active")])
def test_the_state_of_nodes_is_changed_with_one_audit_row_each(command: str, state: str) -> None:
    make_node("one", state="draining" if state == "active" else "active")

    run(command, "one")
    run(command, "one")

    assert Node.objects.get().state == state
    assert AuditEntry.objects.filter(action=f"node.{state}").count() == 1


@pytest.mark.parametrize("command", ["cordon", "drain", "uncordon", "remove_node"])
def test_a_node_that_is_not_there_is_named(command: str) -> None:
    with pytest.raises(CommandError, match=r"There is no node .*nowhere"):
        run(command, "nowhere")


def test_a_node_with_something_on_it_stays() -> None:
    make_node("one")
    make_reservation()

    with pytest.raises(CommandError, match="still holds 1 reservations"):
        run("remove_node", "one")

    assert Node.objects.exists()


def test_nodes_are_shown_to_people_and_to_programs() -> None:
    make_node("one", last_seen_at=timezone.now())
    make_reservation()

    table, (row,) = run("nodes"), json.loads(run("nodes", "--json"))

    assert "one" in table
    assert (row["name"], row["ram_mib"], row["held_count"]) == ("one", 4096, 1)


@pytest.mark.parametrize(("health", "silent_s"), [("unknown", 0), ("ok", 60)])
def test_a_node_out_of_service_or_that_nobody_probes_is_an_exit_code(health: str, silent_s: int) -> None:
    make_node("one", health=health, last_seen_at=timezone.now() - timedelta(seconds=silent_s))

    with pytest.raises(SystemExit) as stopped:
        run("nodes", "--json")

    assert stopped.value.code == 1


def test_without_nodes_it_says_how_to_add_one() -> None:
    assert "enrol_node" in run("nodes")
    assert json.loads(run("nodes", "--json")) == []


# ---- people -----------------------------------------------------------------------------------------------


def test_the_first_admin_is_made_once_and_the_password_kept_privately(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv("BERTH_ADMIN_PASSWORD", raising=False)
    file = tmp_path / "password"

    said = run("createadmin", f"--password-file={file}")
    again = run("createadmin", f"--password-file={file}")

    admin = User.objects.get()
    password = file.read_text().strip()
    assert (admin.username, admin.is_superuser, admin.check_password(password)) == ("admin", True, True)
    assert password in said
    assert "nothing changed" in again
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_password_that_is_too_short_makes_no_admin(monkeypatch: Any) -> None:
    monkeypatch.setenv("BERTH_ADMIN_PASSWORD", "short")

    with pytest.raises(CommandError, match="at least 8 characters"):
        run("createadmin")

    assert not User.objects.exists()


def test_a_token_is_printed_once_and_kept_hashed() -> None:
    make_user("ada")

    secret = run("create_token", "ADA", "--days=1").strip()

    token = ApiToken.objects.get()
    assert secret.startswith("berth_")
    assert secret not in (token.digest, token.hint)
    assert token.digest == ApiToken.digest_of(secret)
    assert token.expires_at


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(["nobody"], "no active user 'nobody'"), (["ada", "--days=0"], "between 1 and 365"), (["old"], "no active user")],
)
def test_a_token_for_nobody_or_no_time_is_refused(words: list[str], sentence: str) -> None:
    make_user("ada")
    make_user("old", is_active=False)

    with pytest.raises(CommandError, match=sentence):
        run("create_token", *words)

    assert not ApiToken.objects.exists()


def test_the_catalogue_is_seeded_once_and_what_an_admin_changed_stays() -> None:
    first = run("seed_catalogue")
    again = run("seed_catalogue")

    assert first.startswith("Catalogue: 18 added")
    assert again.startswith("Catalogue: 0 added")
