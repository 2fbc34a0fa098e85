"""Commands on this machine, for real; and the SSH targets that are refused."""

import threading
from pathlib import Path

import pytest

from compute import shell
from compute.shell import CommandFailed, Host, NoAnswer, SshOptions


@pytest.fixture
def options(tmp_path: Path) -> SshOptions:
    return SshOptions(tmp_path / "key", tmp_path / "known_hosts", tmp_path / "control")


@pytest.fixture
def here(options: SshOptions) -> Host:
    return Host("", options)


def test_the_output_is_returned_and_the_input_arrives(here: Host) -> None:
    assert here.run(["cat"], stdin="a\nb\n") == "a\nb\n"


def test_an_argument_is_one_argument_whatever_is_in_it(here: Host) -> None:
    assert here.run(["printf", "%s|", "a b", "$HOME;ls", "'"]) == "a b|$HOME;ls|'|"


def test_a_command_that_fails_says_where_and_why(here: Host) -> None:
    with pytest.raises(CommandFailed, match=r"sh on this machine failed with exit code 3: it is broken") as failed:
        here.run(["sh", "-c", "echo it is broken >&2; exit 3"])

    assert (failed.value.code, failed.value.stderr) == (3, "it is broken")


def test_a_command_that_does_not_end_in_time_is_no_answer(here: Host) -> None:
    with pytest.raises(NoAnswer, match=r"did not finish tail within 0\.05 s"):
        here.run(["tail", "-f", "/dev/null"], timeout_s=0.05)


def test_a_program_that_is_not_installed_is_a_failure_and_not_silence(here: Host) -> None:
    with pytest.raises(CommandFailed, match="no-such-program is not installed"):
        here.run(["no-such-program"])


@pytest.mark.parametrize("target", ["-oProxyCommand=touch /tmp/x", "-l root", "-"])
def test_a_target_that_ssh_would_read_as_an_option_is_refused(target: str, options: SshOptions) -> None:
    for call in (Host(target, options).run, Host(target, options).sftp):
        with pytest.raises(CommandFailed, match="must not begin with a dash"):
            call(["ls"])


def test_a_machine_that_cannot_be_reached_is_no_answer(options: SshOptions) -> None:
    # A name that cannot exist (RFC 6761): ssh gives up without a packet on the wire.
    with pytest.raises(NoAnswer, match=r"no SSH connection to root@nowhere\.invalid"):
        Host("root@nowhere.invalid", options).run(["true"])


def test_host_keys_are_pinned_and_nobody_is_asked_for_a_password(options: SshOptions) -> None:
    words = Host("root@node", options)._ssh()

    assert {"StrictHostKeyChecking=yes", "BatchMode=yes", "IdentitiesOnly=yes"} <= set(words)
    assert f"UserKnownHostsFile={options.known_hosts}" in words
    assert words[-2:] == ["--", "root@node"]
    assert options.control_dir.stat().st_mode & 0o777 == 0o700


def test_nobody_waits_for_a_session_longer_than_for_the_command(options: SshOptions) -> None:
    """Eight commands that hang on a machine must not hold up everybody else who asks it."""
    target = "root@all-sessions-in-use"
    slots = shell._slots.setdefault(target, threading.BoundedSemaphore(shell.SESSIONS_AT_ONCE))
    for _ in range(shell.SESSIONS_AT_ONCE):
        slots.acquire()

    with pytest.raises(NoAnswer, match="has 8 commands to finish already"):
        Host(target, options).run(["true"], timeout_s=0.1)
