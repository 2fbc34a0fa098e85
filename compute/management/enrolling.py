"""What enrol_node and renew_certificate have in common: who the machine is, how to log in, the steps on its engine."""

import argparse
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.utils import timezone

from compute import authority, certificates, drivers, engine_config, enrolment, host_keys, keys
from compute.authority import Authority
from compute.engine import EngineRefused, NoAnswer
from compute.engine_config import EngineNeeds
from compute.enrolment import Enrolment, Plan
from compute.host_keys import HostKey
from compute.keys import Machine
from compute.management.tables import agreed
from compute.models import Node
from compute.shell import CommandFailed, Host, SshOptions

Say = Callable[[str], None]
TROUBLES = (
    enrolment.NotReady,
    host_keys.Untrusted,
    authority.Unusable,
    keys.ByHand,
    NoAnswer,
    CommandFailed,
    OSError,
    ValueError,
)


def add_engine_arguments(parser: CommandParser) -> None:
    """Those about the authority and the engine's restart."""
    parser.add_argument(
        "--ca", type=Path, metavar="FOLDER", help="the authority: ca.pem and ca-key.pem (default: BERTH_CA_DIR)"
    )
    parser.add_argument(
        "--restart-command",
        type=_whole_command,
        default="systemctl restart docker",
        metavar="COMMAND",
        help="run on the node as root to restart its engine (default: systemctl restart docker)",
    )
    parser.add_argument(
        "--may-end-containers",
        action="store_true",
        help="restart the engine even if containers run there that do not survive it",
    )
    parser.add_argument(
        "--daemon-json", default=engine_config.FILE, metavar="FILE", help="on the node (default: %(default)s)"
    )
    parser.add_argument(
        "--tls-dir", default=engine_config.TLS, metavar="FOLDER", help="on the node (default: %(default)s)"
    )
    parser.add_argument("--dry-run", action="store_true", help="look at the node and only say what would be done")


def _whole_command(text: str) -> str:
    """For `type=`. Raises ArgumentTypeError, which the parser shows with the option's name."""
    try:
        if shlex.split(text):
            return text
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"{text!r} is no command: {problem}") from problem
    raise argparse.ArgumentTypeError("it is empty")


@dataclass(frozen=True, slots=True)
class Keys:
    """The files that a machine is reached with; every one of them is set."""

    ssh_key: Path
    known_hosts: Path
    tls_dir: Path


def files() -> Keys:
    """Of the settings. Raises CommandError, which names those that are not set."""
    found = {
        "BERTH_SSH_KEY": settings.BERTH_SSH_KEY,
        "BERTH_SSH_KNOWN_HOSTS": settings.BERTH_SSH_KNOWN_HOSTS,
        "BERTH_TLS_DIR": settings.BERTH_TLS_DIR,
    }
    if unset := [name for name, path in found.items() if path is None]:
        raise CommandError(f"{', '.join(unset)} must be set to enrol nodes: see docs/settings.md.")
    return Keys(*(path for path in found.values() if path))


def authority_of(ca: Path | None, own: Keys) -> Authority:
    """The one that signs, checked together with the portal's own certificate. Raises CommandError, Unusable."""
    folder = ca or settings.BERTH_CA_DIR
    if folder is None:
        raise CommandError("There is no authority: set BERTH_CA_DIR, or say --ca FOLDER (manage.py make_authority).")
    found = Authority(folder)
    found.check(timezone.now())
    authority.check_client(own.tls_dir, found, timezone.now())
    return found


@contextmanager
def trusted(target: str, expected: str, own: Keys, say: Say, *, dry_run: bool) -> Iterator[SshOptions | None]:
    """How to reach the machine whose host key is known now: pinned before, expected, or agreed to by who is asked.

    In a dry run nothing is pinned; None when it would have to be asked about first.
    """
    host = target.rpartition("@")[2]
    key, known = host_keys.choose(host, own.known_hosts, expected)
    options = replace(drivers.ssh_options(), known_hosts=own.known_hosts)
    if known:
        yield options
        return
    say(f"The host key of {host} is {key.kind} {key.fingerprint}.")
    if dry_run:
        say(f"would pin it in {own.known_hosts}{'' if expected else ', once somebody said that it is the right one'}")
        if not expected:
            say("What else would be done can be told with --host-key, or when it is pinned.")
            yield None
            return
        with _pinned_for_now(own.known_hosts, host, key) as file:
            yield replace(options, known_hosts=file)
        return
    if not expected and not agreed("Is that what `ssh-keygen -lf` prints on the machine itself?"):
        raise host_keys.Untrusted(
            f"Nobody has said that this is its key. Compare it on the machine, then say --host-key {key.fingerprint}"
        )
    host_keys.pin(own.known_hosts, host, key)
    say(f"pinned its host key in {own.known_hosts}")
    yield options


@contextmanager
def _pinned_for_now(known_hosts: Path, host: str, key: HostKey) -> Iterator[Path]:
    with TemporaryDirectory(prefix="berth-") as folder:
        copy = Path(folder) / "known_hosts"
        if known_hosts.exists():
            shutil.copyfile(known_hosts, copy)
        host_keys.pin(copy, host, key)
        yield copy


@contextmanager
def logged_in(
    name: str, target: str, identity: Path | None, options: SshOptions, own: Keys, say: Say, *, dry_run: bool
) -> Iterator[tuple[Host, bool]]:
    """The machine, opened by Berth's key, and whether that had to be let in; in a dry run opened by the other one."""
    if keys.opens(Machine(name, target), own.ssh_key, options):
        with keys.only(own.ssh_key, options) as berths:
            yield Host(target, berths), False
        return
    with keys.only(identity, options) as others:
        if dry_run:
            say(f"would let Berth's key in to {target}")
            yield Host(target, others), True
            return
        keys.let_in(target, keys.public(own.ssh_key), others)
    if not keys.opens(Machine(name, target), own.ssh_key, options):
        raise keys.ByHand(f"it refuses Berth's key although that was put there; let it in:\n{keys.public(own.ssh_key)}")
    say(f"let Berth's key in to {target}")
    with keys.only(own.ssh_key, options) as berths:
        yield Host(target, berths), True


@dataclass(frozen=True, slots=True)
class EngineWishes:
    """What `add_engine_arguments` has parsed."""

    restart_command: str
    may_end_containers: bool
    daemon_json: str
    tls_dir: str
    insecure_registry: tuple[str, ...]

    @classmethod
    def of(cls, options: dict[str, Any]) -> "EngineWishes":
        return cls(
            options["restart_command"],
            options["may_end_containers"],
            options["daemon_json"],
            options["tls_dir"],
            tuple(options.get("insecure_registry") or ()),
        )


def steps_on(
    host: Host, node: Node, signer: Authority, wishes: EngineWishes, say: Say, *, renew_before: timedelta
) -> Enrolment:
    """The steps that bring this node's engine to what Berth needs."""
    port = urlsplit(node.engine_url).port or certificates.ENGINE_PORT
    plan = Plan(
        name=node.name,
        needs=EngineNeeds(node.address, port, wishes.tls_dir, wishes.insecure_registry),
        authority=signer,
        restart_command=wishes.restart_command,
        may_end_containers=wishes.may_end_containers,
        config_file=wishes.daemon_json,
        renew_before=renew_before,
    )

    def ask() -> str:
        try:
            return drivers.engine(node).info().version
        except EngineRefused as problem:
            raise NoAnswer(str(problem)) from problem

    return Enrolment(host, plan, ask, say)
