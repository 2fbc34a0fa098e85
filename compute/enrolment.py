"""Makes a bare machine's engine one that Berth can use: key, certificate, configuration, restart. No Django.

First one look, which changes nothing; then only the steps that the look found to be needed. So a second run does
nothing, a dry run is the look alone, and one that was killed anywhere goes on with what is left. The engine's private
key is made on the node and never leaves it: a request comes back, and a certificate goes there.
"""

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from compute import authority as authorities
from compute import engine_config
from compute.authority import Authority
from compute.engine_config import EngineNeeds
from compute.shell import CommandFailed, Host, NoAnswer

AHEAD = timedelta(days=30)  # a certificate that ends sooner is made anew
RESTART_S = 120
ANSWER_S = 60.0
PROGRAMS = (
    "docker",
    "dockerd",
    "openssl",
    "iptables",
    "flock",
    "timeout",
    "losetup",
    "mkfs.ext4",
    "sshfs",
    "mountpoint",
)
DROP_IN = "/etc/systemd/system/docker.service.d/berth.conf"

Say = Callable[[str], None]
Ask = Callable[[], str]
"""The engine's version, asked over mutual TLS. Raises NoAnswer."""


class NotReady(Exception):
    """The machine cannot be made a node as it is; the message says what it lacks. Nothing was changed by this step."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for. `may_end_containers`: a restart may end what runs there."""

    name: str
    needs: EngineNeeds
    authority: Authority
    restart_command: str
    may_end_containers: bool = False
    config_file: str = engine_config.FILE
    renew_before: timedelta = AHEAD


@dataclass(frozen=True, slots=True)
class Look:
    """What was found on the machine."""

    uid: str
    missing: tuple[str, ...]
    config: str | None
    certificate: str
    public_key: str
    trusted: str  # the ca.pem that it has
    started_by: str  # systemd's command line for the engine; "" without systemd
    running: int | None  # containers; None: its engine does not say
    held: int  # containers by their processes, whatever its engine says
    survives: bool  # they survive a restart
    unfinished: bool  # a restart was still to come when an earlier run ended


def look(host: Host, plan: Plan) -> Look:
    """Ask the machine. Raises NoAnswer or CommandFailed."""
    argv = ["sh", "-s", "--", plan.config_file, plan.needs.tls_folder, *PROGRAMS]
    said = dict(line.partition(" ")[::2] for line in host.run(argv, stdin=_LOOK, timeout_s=40).splitlines())
    text = {word: base64.b64decode(encoded).decode(errors="replace") for word, encoded in said.items()}
    running = text.get("running", "").split()
    return Look(
        uid=text["uid"].strip(),
        missing=tuple(text["missing"].split()),
        config=text.get("config"),
        certificate=text.get("cert", ""),
        public_key=text.get("public", ""),
        trusted=text.get("ca", ""),
        started_by=_command_line(text.get("unit", "")),
        running=int(running[0]) if running and running[0].isdigit() else None,
        held=int(text["held"]),
        survives=running[1:] == ["true"],
        unfinished="unfinished" in text,
    )


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The steps on one machine. `ask` asks its engine over mutual TLS; `clock` is UTC."""

    host: Host
    plan: Plan
    ask: Ask
    say: Say
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    pause: Callable[[float], None] = time.sleep

    def run(self, *, dry_run: bool = False) -> list[str]:
        """Do what is needed; what was done, one sentence each ([]: all was right). Raises NotReady, NoAnswer,
        CommandFailed, authority.Unusable.
        """
        found = look(self.host, self.plan)
        self._must_be_usable(found)
        certificate = self._certificate_problem(found)
        config, changed = self._config(found)
        unit = engine_config.drop_in(found.started_by)
        silent = "" if certificate or changed or unit or found.unfinished else self._silence()
        restart = bool(certificate or changed or unit or found.unfinished or silent)
        if restart and not self.plan.may_end_containers:
            self._must_end_nothing(found)
        steps = _sentences(certificate, changed, unit, found, silent, self.plan)
        if dry_run:
            for sentence in steps:
                self.say(f"would {sentence}")
            return steps
        if certificate or changed or unit:
            self._note_unfinished()
        if certificate:
            self.renew()
        if changed:
            self._write_config(config)
        if unit:
            self.host.run(["sh", "-s", "--", DROP_IN], stdin=_file_script(unit) + _RELOAD)
        if restart:
            self._restart()
        for sentence in steps:
            self.say(sentence)
        return steps

    def renew(self) -> None:
        """A new key, made there, and a certificate for it; both come into place together with whom it trusts."""
        folder = self.plan.needs.tls_folder
        request = self.host.run(["sh", "-s", "--", folder, self.plan.name], stdin=_REQUEST, timeout_s=40)
        certificate = self.plan.authority.sign(
            request, name=self.plan.name, address=self.plan.needs.address, now=self.clock()
        )
        bundle = self.plan.authority.bundle
        files = f"cat >cert.pem.next <<'{_END}'\n{certificate}{_END}\ncat >ca.pem.next <<'{_END}'\n{bundle}{_END}\n"
        self.host.run(["sh", "-s", "--", folder], stdin=f'set -eu\ncd "$1"\n{files}{_INSTALL}')

    def _must_be_usable(self, found: Look) -> None:
        if found.uid != "0":
            raise NotReady(f"the login {self.host.target} is not root (uid {found.uid}): an engine is root's business.")
        if found.missing:
            packages = " (Debian: apt-get install openssl iptables util-linux mount e2fsprogs sshfs)"
            docker = " Docker is not installed: see https://docs.docker.com/engine/install/debian/."
            raise NotReady(
                f"it lacks {', '.join(found.missing)}{packages}.{docker if 'dockerd' in found.missing else ''}"
            )

    def _must_end_nothing(self, found: Look) -> None:
        """That an engine does not say what runs is no sign that nothing does: then its processes are counted."""
        if found.running and not found.survives:
            raise NotReady(
                f"{found.running} containers run on it, and would end with the restart of its engine (live-restore is"
                " off). Drain it first, or say --may-end-containers."
            )
        if found.running is None and found.held:
            raise NotReady(
                f"its engine does not say what runs, and {found.held} containers do, which its restart may end."
                " Drain it first, or say --may-end-containers."
            )

    def _certificate_problem(self, found: Look) -> str:
        wrong = authorities.what_is_wrong(
            found.certificate,
            found.public_key,
            authority=self.plan.authority,
            address=self.plan.needs.address,
            now=self.clock(),
            ahead=self.plan.renew_before,
        )
        if not wrong and found.trusted.strip() != self.plan.authority.bundle.strip():
            return "is beside another ca.pem than the authority's"
        return wrong

    def _config(self, found: Look) -> tuple[str, list[str]]:
        try:
            return engine_config.merged(found.config, self.plan.needs)
        except engine_config.BadConfig as problem:
            raise NotReady(f"{problem} ({self.plan.config_file}); mend it first.") from problem

    def _silence(self) -> str:
        """Why the engine has to be started although nothing of it changed; "" when it answers."""
        try:
            self.ask()
        except NoAnswer as problem:
            return str(problem)
        return ""

    def _note_unfinished(self) -> None:
        note = f"{self.plan.needs.tls_folder}/berth-unfinished"
        self.host.run(
            ["sh", "-c", 'mkdir -p -m 700 "$1" && : >"$2" && sync "$2"', "sh", self.plan.needs.tls_folder, note]
        )

    def _write_config(self, config: str) -> None:
        stamp = f"{self.clock():%Y%m%dT%H%M%SZ}"
        try:
            self.host.run(
                ["sh", "-s", "--", self.plan.config_file, stamp], stdin=_file_script(config, _CHECK), timeout_s=40
            )
        except CommandFailed as problem:
            if problem.code != 9:
                raise
            raise NotReady(f"its engine does not take the configuration: {problem.stderr}") from problem

    def _restart(self) -> None:
        try:
            self.host.run(["sh", "-c", self.plan.restart_command], timeout_s=RESTART_S)
        except CommandFailed as problem:
            raise NotReady(
                f"its engine could not be restarted by `{self.plan.restart_command}`: {problem.stderr or problem}."
                f" The old configuration is kept beside {self.plan.config_file}."
            ) from problem
        until = time.monotonic() + ANSWER_S
        while trouble := self._silence():
            if time.monotonic() >= until:
                raise NotReady(f"its engine was restarted and does not answer within {ANSWER_S:.0f} s: {trouble}")
            self.pause(0.5)
        self.host.run(["rm", "-f", f"{self.plan.needs.tls_folder}/berth-unfinished"])


def _sentences(
    certificate: str, changed: list[str], unit: str | None, found: Look, silent: str, plan: Plan
) -> list[str]:
    steps = []
    if certificate:
        steps.append(f"make a key and a certificate for its engine (the present one {certificate})")
    if changed:
        backup = "" if found.config is None else ", the old file kept beside it"
        steps.append(f"set {', '.join(changed)} in {plan.config_file}{backup}")
    if unit:
        steps.append(f"take -H from systemd's command line for the engine ({DROP_IN})")
    if steps or found.unfinished or silent:
        why = "" if steps else " (an earlier run ended before it)" if found.unfinished else f" ({silent})"
        steps.append(f"restart its engine by `{plan.restart_command}` and wait for its answer over mutual TLS{why}")
    return steps


def _command_line(unit: str) -> str:
    """Of `systemctl show -p ExecStart`: { path=… ; argv[]=/usr/bin/dockerd -H fd:// ; ignore_errors=no ; … }."""
    _, _, rest = unit.partition("argv[]=")
    return rest.partition(" ; ")[0].strip()


_END = "END-OF-FILE-FROM-BERTH"
# Each answer is a word and its text in base64; what is not there is not said.
_LOOK = """
set -u
config=$1 tls=$2
shift 2
say() { printf '%s %s\\n' "$1" "$(base64 | tr -d '\\n')"; }
id -u | say uid
for program in "$@"; do command -v "$program" >/dev/null 2>&1 || echo "$program"; done | say missing
[ ! -e "$config" ] || say config <"$config"
[ ! -e "$tls/cert.pem" ] || say cert <"$tls/cert.pem"
[ ! -e "$tls/ca.pem" ] || say ca <"$tls/ca.pem"
[ ! -e "$tls/berth-unfinished" ] || echo yes | say unfinished
[ ! -e "$tls/key.pem" ] || openssl pkey -in "$tls/key.pem" -pubout 2>/dev/null | say public
[ ! -d /run/systemd/system ] || systemctl show -p ExecStart docker.service 2>/dev/null </dev/null | say unit
timeout 10 docker info --format '{{.ContainersRunning}} {{.LiveRestoreEnabled}}' 2>/dev/null </dev/null | say running
cat /proc/[0-9]*/comm 2>/dev/null | grep -cx containerd-shim | say held # each holds a container; 15 letters are kept
exit 0
"""
_REQUEST = """
set -eu
umask 077
mkdir -p "$1"
chmod 700 "$1"
cd "$1"
openssl ecparam -name prime256v1 -genkey -noout -out key.pem.next
openssl req -new -key key.pem.next -subj "/CN=$2"
"""
_INSTALL = """
chmod 600 key.pem.next
sync key.pem.next cert.pem.next ca.pem.next
mv key.pem.next key.pem
mv cert.pem.next cert.pem
mv ca.pem.next ca.pem
"""
_CHECK = """
if ! said=$(dockerd --validate --config-file "$1.berth-new" 2>&1 </dev/null); then
  case $said in
  *"unknown flag"*) ;; # older than 23.0
  *) rm -f "$1.berth-new"; echo "$said" >&2; exit 9 ;;
  esac
fi
[ ! -e "$1" ] || cp -p -- "$1" "$1.berth-$2"
"""
_RELOAD = "systemctl daemon-reload\n"


def _file_script(text: str, between: str = "") -> str:
    """Writes `text` to the file $1, whole or not at all; `between` runs when it is there as $1.berth-new."""
    return f"""set -eu
umask 022
mkdir -p "$(dirname "$1")"
cat >"$1.berth-new" <<'{_END}'
{text.rstrip()}
{_END}
{between}
sync "$1.berth-new"
mv -- "$1.berth-new" "$1"
"""
