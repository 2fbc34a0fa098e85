"""manage.py rotate_keys on the real lab, killed at every step."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from compute import keys
from compute.key_rotation import Rotation
from compute.keys import KeyFiles, Machine, PublicKey
from compute.shell import SshOptions
from lab import Lab
from tests.live import RunningStack

STORAGE_KEYS = "/etc/ssh/authorized_keys_berth"  # root's: the account itself cannot change it


class Killed(BaseException):
    """In place of a SIGKILL."""


@pytest.fixture
def options(lab: Lab) -> Iterator[SshOptions]:
    with TemporaryDirectory(prefix="berth-") as folder:  # a short path: it holds sockets
        yield SshOptions(Path(lab.info.keys.ssh_key), Path(lab.info.keys.known_hosts), Path(folder))
        for connection in Path(folder).iterdir():
            subprocess.run(
                ["ssh", "-O", "exit", "-o", f"ControlPath={connection}", "any"], capture_output=True, check=False
            )


@pytest.fixture
def machines(lab: Lab) -> list[Machine]:
    """Those that the portal can change by itself."""
    info = lab.info
    return [Machine("gateway", info.gateway.ssh), *(Machine(node.name, node.ssh) for node in info.nodes)]


def _listed(lab: Lab, machine: str) -> list[str]:
    name = STORAGE_KEYS if machine == "storage" else "/etc/ssh/authorized_keys_root"
    return [line.split()[1] for line in lab.exec(machine, ["cat", name]).stdout.splitlines()]


def test_killed_at_any_step_it_goes_on_and_nobody_is_locked_out(
    lab: Lab, options: SshOptions, machines: list[Machine]
) -> None:
    key = Path(lab.info.keys.ssh_key)
    files, before = KeyFiles(key), keys.public(key)
    mode = (key.stat().st_mode, key.stat().st_uid)
    rounds = 0
    for allowed in range(20):
        said: list[str] = []

        def say(line: str, said: list[str] = said, allowed: int = allowed) -> None:
            said.append(line)
            if len(said) > allowed:
                raise Killed

        rounds += 1
        try:
            Rotation(files, machines, options, say).run()
        except Killed:
            assert [m.name for m in machines if not keys.opens(m, key, options)] == []
        else:
            break
    assert rounds > 3
    after = keys.public(key)
    assert after.blob != before.blob
    assert {tuple(_listed(lab, machine.name)) for machine in machines} == {(after.blob,)}
    assert (key.stat().st_mode, key.stat().st_uid) == mode
    assert sorted(path.name for path in key.parent.glob("*ssh_key*")) == ["ssh_key", "ssh_key.pub"]
    assert after.blob in key.with_suffix(".pub").read_text()
    _put_on_storage(lab, after, before)


def test_the_command_switches_only_when_every_machine_lets_the_new_key_in(lab: Lab, stack: RunningStack) -> None:
    key = Path(lab.info.keys.ssh_key)
    old = keys.public(key)

    plan = stack.run_manage("rotate_keys", "--dry-run").stdout
    assert plan.count(": answers") == 4
    assert not KeyFiles(key).coming.exists()

    first = stack.run_manage("rotate_keys", check=False)
    new = keys.public(KeyFiles(key).coming)
    assert first.returncode
    assert "The old key stays in use" in first.stderr
    assert str(new) in first.stderr, "what to put on the storage server by hand"
    assert keys.public(key) == old

    _put_on_storage(lab, new)
    second = stack.run_manage("rotate_keys", check=False)
    assert "The new key is in use, but the old one is still let in" in second.stderr
    assert keys.public(key) == new
    stack.run_manage("rotate_keys", "--keep-old")

    lab.exec("storage", ["sed", "-i", f"\\|{old.blob}|d", STORAGE_KEYS])
    assert "The old key opens nothing any more" in stack.run_manage("rotate_keys").stdout
    for machine in ("gateway", "node1", "node2", "storage"):
        listed = _listed(lab, machine)
        assert new.blob in listed, machine
        assert old.blob not in listed, machine
    for name in ("node1", "gateway"):  # and after a reboot, too
        assert lab.exec(name, ["true"]).returncode == 0


def _put_on_storage(lab: Lab, new: PublicKey, old: PublicKey | None = None) -> None:
    lab.exec("storage", ["sh", "-c", f"cat >>{STORAGE_KEYS}"], input=f"{new}\n")
    if old:
        lab.exec("storage", ["sed", "-i", f"\\|{old.blob}|d", STORAGE_KEYS])
