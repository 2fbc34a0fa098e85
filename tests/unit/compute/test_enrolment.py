"""enrol_node, renew_certificate, make_authority: who is trusted, what is signed, what a machine is changed by.

The scripts that run on a node run here for real, by this machine's own shell and openssl, in a folder of the test's.
"""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from django.core.management import CommandError, call_command

from accounts.models import AuditEntry
from compute import authority, engine_config, enrolment, host_keys, keys
from compute.authority import Authority, Unusable
from compute.engine_config import EngineNeeds
from compute.enrolment import Enrolment, NotReady, Plan
from compute.host_keys import HostKey, Untrusted
from compute.shell import Host, NoAnswer, SshOptions
from tests.factories import make_gateway, make_node

NOW = datetime.now(UTC).replace(microsecond=0)
HERE = Host("", SshOptions(None, None, Path("nowhere")))
NEEDS = EngineNeeds("10.99.0.11", 2376)


@pytest.fixture
def signer(tmp_path: Path) -> Authority:
    authority.make(tmp_path / "ca", now=NOW)
    return Authority(tmp_path / "ca")


def requested(tmp_path: Path, *more: str) -> str:
    argv = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    argv += ["-subj", "/CN=evil", "-keyout", str(tmp_path / "key"), *more]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def public_of(key: Path) -> str:
    return subprocess.run(
        ["openssl", "pkey", "-in", str(key), "-pubout"], check=True, capture_output=True, text=True
    ).stdout


# ---- the authority ----------------------------------------------------------------------------------------


def test_an_authority_is_made_once_and_its_key_is_its_owners_alone(tmp_path: Path, signer: Authority) -> None:
    before = (signer.folder / "ca.pem").read_bytes()

    again = authority.make(signer.folder, now=NOW)

    assert again is False
    assert (signer.folder / "ca.pem").read_bytes() == before
    assert (signer.folder / "ca-key.pem").stat().st_mode & 0o777 == 0o600


def test_a_certificate_is_for_the_nodes_address_and_for_servers_whatever_was_asked_for(
    tmp_path: Path, signer: Authority
) -> None:
    asked = requested(tmp_path, "-addext", "subjectAltName=IP:10.99.0.1", "-addext", "basicConstraints=CA:TRUE")

    made = x509.load_pem_x509_certificate(signer.sign(asked, name="one", address="10.99.0.11", now=NOW).encode())

    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.99.0.11", "127.0.0.1"]
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    usage = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    made.verify_directly_issued_by(signer.certificate)


def test_what_is_no_request_is_not_signed(signer: Authority) -> None:
    with pytest.raises(Unusable, match="no certificate request"):
        signer.sign("-----BEGIN NONSENSE-----", name="one", address="10.99.0.11", now=NOW)


def test_no_certificate_outlives_its_authority(tmp_path: Path, signer: Authority) -> None:
    late = NOW + authority.AUTHORITY_LASTS - timedelta(days=1)

    made = signer.sign(requested(tmp_path), name="one", address="10.99.0.11", now=late)

    assert authority.ends(made) == signer.certificate.not_valid_after_utc


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda folder: (folder / "ca-key.pem").unlink(), "ca-key.pem cannot be read"),
        (lambda folder: (folder / "ca.pem").unlink(), "there is no authority"),
        (lambda folder: (folder / "ca.pem").write_text("nonsense"), "cannot be read as one"),
        (lambda folder: (folder / "ca-key.pem").write_text("nonsense"), "cannot be read as a key"),
    ],
)
def test_an_authority_that_cannot_sign_is_named(
    change: Callable[[Path], object], sentence: str, signer: Authority
) -> None:
    change(signer.folder)

    with pytest.raises(Unusable, match=sentence):
        signer.check(NOW)


def test_a_key_of_another_authority_and_one_that_ended_are_named(tmp_path: Path, signer: Authority) -> None:
    authority.make(tmp_path / "other", now=NOW)
    with pytest.raises(Unusable, match="ended on"):
        signer.check(NOW + timedelta(days=4000))
    (signer.folder / "ca-key.pem").write_bytes((tmp_path / "other/ca-key.pem").read_bytes())

    with pytest.raises(Unusable, match="is not the key of"):
        signer.check(NOW)


def test_what_is_wrong_with_a_certificate_is_said(tmp_path: Path, signer: Authority) -> None:
    authority.make(tmp_path / "other", now=NOW)
    made = signer.sign(requested(tmp_path), name="one", address="10.99.0.11", now=NOW)
    public = public_of(tmp_path / "key")
    requested(tmp_path)

    def wrong(certificate: str = made, key: str = public, **more: Any) -> str:
        facts: dict[str, Any] = {"authority": signer, "address": "10.99.0.11", "now": NOW, "ahead": enrolment.AHEAD}
        return authority.what_is_wrong(certificate, key, **(facts | more))

    assert wrong() == ""
    assert wrong(certificate="") == "is missing"
    assert wrong(certificate="nonsense") == "cannot be read"
    assert wrong(key=public_of(tmp_path / "key")) == "is not that of its key"
    assert wrong(key="") == "is not that of its key"
    assert wrong(authority=Authority(tmp_path / "other")) == "is of another authority"
    assert wrong(address="10.99.0.12") == "is not for 10.99.0.12"
    assert wrong(now=NOW + authority.LASTS - timedelta(days=29)).startswith("ends on")


@pytest.mark.django_db
def test_make_authority_makes_what_is_missing_and_replaces_nothing(tmp_path: Path, settings: Any) -> None:
    settings.BERTH_CA_DIR, settings.BERTH_TLS_DIR = tmp_path / "ca", tmp_path / "tls"

    def run(*words: str) -> str:
        out = StringIO()
        call_command("make_authority", *words, stdout=out)
        return out.getvalue()

    dry = run("--dry-run")
    nothing = list(tmp_path.iterdir())
    first = run()
    files = {path: path.read_bytes() for path in sorted(tmp_path.glob("*/*.pem"))}
    again = run()

    assert dry.count("Would make") == 2
    assert nothing == []
    assert first.count("Made") == 2
    assert "nothing was changed" in again
    assert {path: path.read_bytes() for path in sorted(tmp_path.glob("*/*.pem"))} == files
    assert sorted(f"{path.parent.name}/{path.name}" for path in files) == [
        "ca/ca-key.pem",
        "ca/ca.pem",
        "tls/ca.pem",
        "tls/cert.pem",
        "tls/key.pem",
    ]
    assert AuditEntry.objects.filter(action="authority.make").count() == 1
    authority.check_client(tmp_path / "tls", Authority(tmp_path / "ca"), NOW)


@pytest.mark.django_db
def test_a_portal_of_another_authority_is_told_so(tmp_path: Path, settings: Any) -> None:
    settings.BERTH_CA_DIR, settings.BERTH_TLS_DIR = tmp_path / "ca", tmp_path / "tls"
    call_command("make_authority", stdout=StringIO())

    with pytest.raises(CommandError, match="does not trust this authority"):
        call_command("make_authority", ca=tmp_path / "other", stdout=StringIO())


# ---- host keys --------------------------------------------------------------------------------------------

ED = HostKey("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIFb1ZJc8QoXUYlO3r6h1pV4b2Z2rN1kqf9o5cZp0bXyz")
OTHER = HostKey("ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")


@pytest.fixture
def shows(monkeypatch: pytest.MonkeyPatch) -> list[HostKey]:
    found = [ED]
    monkeypatch.setattr(host_keys, "shown", lambda host: found)
    return found


def test_the_fingerprint_is_what_ssh_keygen_prints(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{OTHER.kind} {OTHER.blob} somebody\n")
    argv = ["ssh-keygen", "-lf", str(tmp_path / "key")]
    printed = subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    assert OTHER.fingerprint in printed


def test_an_unknown_host_key_is_trusted_by_its_fingerprint_only(tmp_path: Path, shows: list[HostKey]) -> None:
    file = tmp_path / "known_hosts"

    asked = host_keys.choose("10.0.0.1", file, "")
    expected = host_keys.choose("10.0.0.1", file, ED.fingerprint)
    with pytest.raises(Untrusted, match="does not have the host key SHA256:wrong; it shows SHA256:"):
        host_keys.choose("10.0.0.1", file, "SHA256:wrong")

    assert asked == expected == (ED, False)
    assert not file.exists()


def test_a_pinned_key_is_known_and_pinned_once(tmp_path: Path, shows: list[HostKey]) -> None:
    file = tmp_path / "known_hosts"
    file.write_text("10.0.0.2 ssh-ed25519 AAAA")  # without an end of line
    file.chmod(0o640)

    host_keys.pin(file, "10.0.0.1", ED)
    host_keys.pin(file, "10.0.0.1", ED)

    assert file.read_text() == f"10.0.0.2 ssh-ed25519 AAAA\n10.0.0.1 {ED.kind} {ED.blob}\n"
    assert file.stat().st_mode & 0o777 == 0o640
    assert host_keys.choose("10.0.0.1", file, "") == (ED, True)


def test_another_key_than_the_pinned_one_is_refused_even_if_it_is_expected(
    tmp_path: Path, shows: list[HostKey]
) -> None:
    file = tmp_path / "known_hosts"
    host_keys.pin(file, "10.0.0.1", OTHER)

    for expected in ("", ED.fingerprint):
        with pytest.raises(Untrusted, match="shows another host key"):
            host_keys.choose("10.0.0.1", file, expected)


def test_where_no_sshd_answers_that_is_said(tmp_path: Path, shows: list[HostKey]) -> None:
    shows.clear()

    with pytest.raises(Untrusted, match="no sshd that answers"):
        host_keys.choose("10.0.0.1", tmp_path / "known_hosts", "")


# ---- the engine's configuration ---------------------------------------------------------------------------


def test_daemon_json_gets_what_berth_needs_and_keeps_what_is_there() -> None:
    there = {"data-root": "/data", "labels": ["rack=7"], "hosts": ["unix:///run/docker.sock", "tcp://0.0.0.0:2376"]}
    needs = replace(NEEDS, plain_registries=("10.0.0.31:5000",))

    text, changed = engine_config.merged(json.dumps(there), needs)
    again, nothing = engine_config.merged(text, needs)

    made = json.loads(text)
    assert (made["data-root"], made["labels"]) == ("/data", ["rack=7"])
    assert made["hosts"] == ["unix:///run/docker.sock", "tcp://10.99.0.11:2376"]
    assert (made["tlsverify"], made["userland-proxy"]) == (True, False)
    assert made["tlskey"] == "/etc/docker/tls/key.pem"
    assert made["insecure-registries"] == ["10.0.0.31:5000"]
    assert "hosts" in changed
    assert (again, nothing) == (text, [])


def test_a_machine_without_daemon_json_gets_one_and_pools_of_an_operator_stay() -> None:
    made = json.loads(engine_config.merged(None, NEEDS)[0])
    kept = json.loads(engine_config.merged('{"default-address-pools": [], "log-driver": "local"}', NEEDS)[0])

    assert made["hosts"] == ["unix:///var/run/docker.sock", "tcp://10.99.0.11:2376"]
    assert made["default-address-pools"] == [{"base": "10.210.0.0/16", "size": 28}]
    assert (kept["default-address-pools"], kept["log-driver"]) == ([], "local")


@pytest.mark.parametrize("text", ["{", "[]", '"text"'])
def test_a_daemon_json_that_is_none_is_left_alone(text: str) -> None:
    with pytest.raises(engine_config.BadConfig, match="JSON"):
        engine_config.merged(text, NEEDS)


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("/usr/bin/dockerd -H fd:// --containerd=/run/c.sock", "/usr/bin/dockerd --containerd=/run/c.sock"),
        ("/usr/bin/dockerd --host=fd:// -H=tcp://0.0.0.0 --debug", "/usr/bin/dockerd --debug"),
        ("/usr/bin/dockerd -Hfd://", "/usr/bin/dockerd"),
        ("/usr/bin/dockerd --debug", None),
        ("", None),
    ],
)
def test_systemds_own_host_option_is_taken_away_where_there_is_one(command: str, kept: str | None) -> None:
    unit = engine_config.drop_in(command)

    assert (unit.splitlines()[-2:] if unit else None) == (["ExecStart=", f"ExecStart={kept}"] if kept else None)


def test_the_command_line_is_read_as_systemctl_shows_it() -> None:
    shown = "ExecStart={ path=/usr/bin/dockerd ; argv[]=/usr/bin/dockerd -H fd:// ; ignore_errors=no ; pid=1 }"

    assert enrolment._command_line(shown) == "/usr/bin/dockerd -H fd://"


# ---- the steps, by this machine's own shell ---------------------------------------------------------------


class Machine:
    """A machine that is this one, with a folder in place of /etc/docker. It restarts by writing to a file."""

    def __init__(self, folder: Path, signer: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.restarts = folder, folder / "restarts"
        folder.mkdir()
        self.answers = False
        monkeypatch.setattr(enrolment, "PROGRAMS", ("openssl", "sh"))
        monkeypatch.setattr(enrolment, "ANSWER_S", 0.0)
        monkeypatch.setattr(enrolment, "_CHECK", enrolment._CHECK.replace("dockerd --validate", "true"))
        monkeypatch.setattr(enrolment, "_LOOK", enrolment._LOOK.replace("/proc/", f"{folder}/proc/"))
        self.said: list[str] = []
        self.plan = Plan(
            name="one",
            needs=replace(NEEDS, tls_folder=str(folder / "tls")),
            authority=signer,
            restart_command=f"echo restarted >>{self.restarts}",
            config_file=str(folder / "daemon.json"),
        )

    def ask(self) -> str:
        if not self.answers and not self.restarts.exists():
            raise NoAnswer("connection refused")
        return "20.10.24"

    def run(self, *, dry_run: bool = False, **changes: Any) -> list[str]:
        plan = replace(self.plan, **changes)
        return Enrolment(HERE, plan, self.ask, self.said.append).run(dry_run=dry_run)

    @property
    def times_restarted(self) -> int:
        return len(self.restarts.read_text().splitlines()) if self.restarts.exists() else 0

    def contents(self) -> dict[str, bytes]:
        return {str(p): p.read_bytes() for p in sorted(self.folder.rglob("*")) if p.is_file() and p != self.restarts}


@pytest.fixture
def machine(tmp_path: Path, signer: Authority, monkeypatch: pytest.MonkeyPatch) -> Machine:
    if os.geteuid():
        monkeypatch.setattr(enrolment, "_LOOK", enrolment._LOOK.replace("id -u", "echo 0"))
    monkeypatch.setattr(enrolment, "_LOOK", enrolment._LOOK.replace("timeout 10 docker info", "false docker info"))
    return Machine(tmp_path / "docker", signer, monkeypatch)


def test_a_bare_machine_gets_everything_once(machine: Machine) -> None:
    steps = machine.run()
    after = machine.contents()
    again = machine.run()

    assert len(steps) == 3
    assert again == []
    assert machine.contents() == after
    assert machine.times_restarted == 1
    tls = machine.folder / "tls"
    assert sorted(path.name for path in tls.iterdir()) == ["ca.pem", "cert.pem", "key.pem"]
    assert (tls / "key.pem").stat().st_mode & 0o777 == 0o600
    assert tls.stat().st_mode & 0o777 == 0o700


def test_the_old_configuration_is_kept(machine: Machine) -> None:
    (machine.folder / "daemon.json").write_text('{"data-root": "/data"}')

    machine.run()

    [backup] = machine.folder.glob("daemon.json.berth-*")
    assert json.loads(backup.read_text()) == {"data-root": "/data"}
    assert json.loads((machine.folder / "daemon.json").read_text())["data-root"] == "/data"


def test_a_dry_run_says_all_and_does_nothing(machine: Machine) -> None:
    machine.run(dry_run=True)

    assert [line.split()[:2] for line in machine.said] == [["would", "make"], ["would", "set"], ["would", "restart"]]
    assert machine.contents() == {}
    assert machine.times_restarted == 0


@pytest.mark.parametrize("dies_at", ["_note_unfinished", "renew", "_write_config", "_restart"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_step_it_goes_on(
    dies_at: str, when: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = getattr(Enrolment, dies_at)

    def dies(self: Enrolment, *arguments: Any) -> None:
        if when == "after" and dies_at != "_restart":
            step(self, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Enrolment, dies_at, dies)
        with pytest.raises(KeyboardInterrupt):
            machine.run()
    machine.run()

    assert machine.times_restarted == 1
    assert machine.run() == []
    assert not [path for path in machine.contents() if "unfinished" in path or ".next" in path or path.endswith("-new")]


def test_a_key_that_lost_its_certificate_is_made_anew(machine: Machine) -> None:
    machine.run()
    requested(machine.folder / "tls")
    (machine.folder / "tls/key").replace(machine.folder / "tls/key.pem")

    steps = machine.run()

    assert "is not that of its key" in steps[0]
    assert machine.run() == []


def test_a_certificate_that_is_near_its_end_is_made_anew_with_a_new_key(machine: Machine) -> None:
    machine.run()
    before = machine.contents()

    steps = machine.run(renew_before=2 * authority.LASTS)

    after = machine.contents()
    changed = sorted(Path(path).name for path in after if before.get(path) != after[path])
    assert changed == ["cert.pem", "key.pem"]
    assert "ends on" in steps[0]
    assert machine.times_restarted == 2


def test_an_engine_that_is_down_is_started_though_nothing_changed(machine: Machine) -> None:
    machine.answers = True
    machine.run()
    machine.restarts.unlink()
    machine.answers = False

    steps = machine.run()

    assert len(steps) == 1
    assert "connection refused" in steps[0]


def test_one_that_does_not_come_up_is_said_and_goes_on_later(machine: Machine) -> None:
    with pytest.raises(NotReady, match="was restarted and does not answer"):
        machine.run(restart_command="true")

    machine.run()
    assert machine.run() == []


def test_a_restart_that_fails_is_said(machine: Machine) -> None:
    with pytest.raises(NotReady, match="could not be restarted by `false`"):
        machine.run(restart_command="false")


def test_containers_are_not_ended_by_the_way(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    run = "false docker info --format '{{.ContainersRunning}} {{.LiveRestoreEnabled}}' 2>/dev/null </dev/null"
    look = enrolment._LOOK
    monkeypatch.setattr(enrolment, "_LOOK", look.replace(run, "echo 7 false"))

    with pytest.raises(NotReady, match="7 containers run on it"):
        machine.run()
    refused = machine.contents()
    machine.run(may_end_containers=True)
    monkeypatch.setattr(enrolment, "_LOOK", look.replace(run, "echo 7 true"))
    (machine.folder / "daemon.json").unlink()
    machine.run()

    assert refused == {}
    assert machine.times_restarted == 2


def test_an_engine_that_does_not_say_what_runs_is_not_restarted_over_containers(machine: Machine) -> None:
    for number, name in ((1, "systemd"), (20, "containerd"), (21, "containerd-shim"), (22, "containerd-shim")):
        process = machine.folder / f"proc/{number}"
        process.mkdir(parents=True)
        (process / "comm").write_text(f"{name}\n")
    before = machine.contents()

    with pytest.raises(NotReady, match="does not say what runs, and 2 containers do"):
        machine.run()
    assert machine.contents() == before
    machine.run(may_end_containers=True)

    assert machine.times_restarted == 1


def test_an_engine_that_is_down_and_holds_nothing_is_started(machine: Machine) -> None:
    (machine.folder / "proc/20").mkdir(parents=True)
    (machine.folder / "proc/20/comm").write_text("containerd\n")

    machine.run()

    assert machine.times_restarted == 1


def test_what_a_machine_lacks_is_named(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrolment, "PROGRAMS", ("sh", "dockerd-that-nobody-has", "dockerd"))
    monkeypatch.setenv("PATH", f"{machine.folder}/bin:/usr/bin:/bin")

    with pytest.raises(NotReady, match="it lacks dockerd-that-nobody-has"):
        machine.run()


def test_who_is_not_root_is_told_so(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        enrolment, "_LOOK", enrolment._LOOK.replace("id -u", "echo 1000").replace("echo 0", "echo 1000")
    )

    with pytest.raises(NotReady, match="is not root"):
        machine.run()


def test_a_broken_daemon_json_is_left_as_it_is(machine: Machine) -> None:
    (machine.folder / "daemon.json").write_text("{")

    with pytest.raises(NotReady, match="is no JSON"):
        machine.run()

    assert list(machine.contents().values()) == [b"{"]


def test_berths_key_is_let_in_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    listed = tmp_path / ".ssh/authorized_keys"
    listed.parent.mkdir()
    listed.write_text("ssh-ed25519 AAAA somebody")  # without an end of line
    listed.chmod(0o600)
    script = keys._LET_IN.replace("sshd -T", "false")
    monkeypatch.setattr(keys, "_LET_IN", script)
    ours = keys.PublicKey("ssh-ed25519", "BBBB", "portal")

    keys.let_in("", ours, HERE.options)
    keys.let_in("", ours, HERE.options)

    assert listed.read_text() == "ssh-ed25519 AAAA somebody\nssh-ed25519 BBBB portal\n"
    assert listed.stat().st_mode & 0o777 == 0o600


# ---- the commands -----------------------------------------------------------------------------------------


@pytest.fixture
def portal(tmp_path: Path, settings: Any) -> Any:
    settings.BERTH_CA_DIR, settings.BERTH_TLS_DIR = tmp_path / "ca", tmp_path / "tls"
    settings.BERTH_SSH_KEY, settings.BERTH_SSH_KNOWN_HOSTS = tmp_path / "ssh_key", tmp_path / "known_hosts"
    call_command("make_authority", stdout=StringIO())
    return settings


def refusal(*words: str) -> str:
    with pytest.raises(CommandError) as refused:
        call_command(*words, stdout=StringIO())
    return str(refused.value)


ENROL = ["enrol_node", "one", "--ssh=root@10.99.0.11", "--gateway=gate", "--address=10.99.0.11"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--gateway=nowhere", "There is no gateway 'nowhere'"),
        ("--ssh=10.99.0.11", "must look like root@host"),
        ("--ssh=-oProxyCommand=x@y", "must look like root@host"),
        ("--ssh=root@10.99.0.11 x", "must look like root@host"),
        ("--address=-x", "must not begin with a dash"),
        ("--port=0", "between 1 and 65535"),
        ("--cores=many", "must be a number"),
        ("--ram-mib=-1", "must not be negative"),
        ("--ca=/nowhere", "there is no authority in /nowhere"),
        ("--restart-command=", "it is empty"),
        ("--restart-command='", "is no command"),
    ],
)
def test_what_cannot_be_enrolled_is_refused_before_anybody_is_asked(
    option: str, sentence: str, portal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_gateway()
    monkeypatch.setattr(host_keys, "shown", lambda host: pytest.fail("the machine was asked"))

    assert sentence in refusal(*ENROL, option)


@pytest.mark.django_db
def test_a_name_or_a_machine_that_is_taken_is_named(portal: Any) -> None:
    node = make_node("one", address="10.99.0.50")
    make_node("two", address="10.99.0.11")

    name = refusal(*ENROL)
    node.delete()
    address = refusal(*ENROL)

    assert "There is a node one already, at 10.99.0.50" in name
    assert "That machine is a node already: two" in address


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["BERTH_SSH_KEY", "BERTH_SSH_KNOWN_HOSTS", "BERTH_TLS_DIR"])
def test_a_setting_that_is_missing_is_named(name: str, portal: Any) -> None:
    make_gateway()
    setattr(portal, name, None)

    assert f"{name} must be set" in refusal(*ENROL)


@pytest.mark.django_db
def test_nobody_is_trusted_without_a_word(portal: Any, shows: list[HostKey]) -> None:
    make_gateway()

    assert f"--host-key {ED.fingerprint}" in refusal(*ENROL)
    assert not portal.BERTH_SSH_KNOWN_HOSTS.exists()


@pytest.mark.django_db
def test_a_certificate_that_berth_cannot_renew_is_named(portal: Any) -> None:
    make_node("local", ssh="", engine_url="unix:///run/docker.sock")

    assert "no certificate that Berth could renew" in refusal("renew_certificate", "local")
    assert "There is no node nowhere" in refusal("renew_certificate", "nowhere")
