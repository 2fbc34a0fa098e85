"""manage.py enrol_node NAME --ssh root@host --gateway GATEWAY --address ADDRESS"""

from decimal import Decimal
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q

from compute import actions
from compute.enrolment import AHEAD
from compute.management import enrolling
from compute.management.lent import add_lent_arguments, lent_cores
from compute.models import Gateway, Node

BY = "manage.py enrol_node"


class Command(BaseCommand):
    help = (
        "Make a bare Debian machine with sshd and Docker a compute node, over SSH, in one go: pin its host key (after"
        " somebody compared the fingerprint), let Berth's key in, have it make a key for its engine and sign that by"
        " the authority, set what Berth needs in its daemon.json (the old file is kept), restart the engine, wait for"
        " its answer over mutual TLS, put the guard there, and take the node in. Only what is missing is done: the"
        " same again changes nothing, and one that was interrupted goes on. Then book something on it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="what it shall be called")
        parser.add_argument("--ssh", required=True, metavar="ROOT@HOST", help="where root can log in")
        parser.add_argument("--gateway", required=True, metavar="NAME", help="the gateway that leads to it")
        parser.add_argument("--address", required=True, help="its private address, where engine and ports listen")
        parser.add_argument(
            "--host-key",
            default="",
            metavar="SHA256:…",
            help="its host key's fingerprint, for scripts: nobody is asked",
        )
        parser.add_argument(
            "--identity",
            type=Path,
            metavar="FILE",
            help="the private key that opens it at present, where Berth's does not yet (default: your agent's)",
        )
        parser.add_argument("--port", type=int, default=2376, help="where its engine listens (default: 2376)")
        parser.add_argument(
            "--insecure-registry",
            action="append",
            metavar="HOST:PORT",
            help="a registry that speaks plain http, as BERTH_REGISTRY may inside the private network",
        )
        add_lent_arguments(parser)
        enrolling.add_engine_arguments(parser)

    def handle(self, *, name: str, dry_run: bool, **options: Any) -> None:
        try:
            self._enrol(name, dry_run, options)
        except (actions.CannotAdd, *enrolling.TROUBLES) as problem:
            raise CommandError(f"The node {name} is not enrolled: {problem}") from problem

    def _enrol(self, name: str, dry_run: bool, options: dict[str, Any]) -> None:
        wanted, target = self._wanted(name, options), options["ssh"]
        own = enrolling.files()
        signer = enrolling.authority_of(options["ca"], own)
        say = self.stdout.write
        with enrolling.trusted(target, options["host_key"], own, say, dry_run=dry_run) as ssh:
            if ssh is None:
                return
            with enrolling.logged_in(name, target, options["identity"], ssh, own, say, dry_run=dry_run) as (
                host,
                let_in,
            ):
                wishes = enrolling.EngineWishes.of(options)
                steps = enrolling.steps_on(host, wanted, signer, wishes, say, renew_before=AHEAD).run(dry_run=dry_run)
        known = Node.objects.present().filter(name=name).exists()
        if dry_run:
            say(f"would {'bring the node up to date' if known else 'take the node in'} and put its guard there")
            return
        row, _ = actions.add_node(node=wanted, by=BY)
        if steps or let_in:
            actions.note_enrolled(node=row, steps=steps, by=BY)
        elif known:
            say("Nothing had to be changed on it.")
        say(
            f"Node {row.name} {'is up to date' if known else 'enrolled'}: lends {row.ram_mib} MiB"
            f" and {row.cores.normalize():f} cores."
        )

    def _wanted(self, name: str, options: dict[str, Any]) -> Node:
        """The row as it shall be; what speaks against it is said before anything is done."""
        target, address, port = options["ssh"], options["address"], options["port"]
        user, at, host = target.rpartition("@")
        if not (at and user and host) or target.startswith("-") or any(c.isspace() for c in target):
            raise CommandError(f"--ssh must look like root@host, not {target!r}.")
        if not 1 <= port <= 65_535:
            raise CommandError("--port must be between 1 and 65535.")
        gateway = Gateway.objects.filter(name=options["gateway"]).first()
        if gateway is None:
            raise CommandError(f"There is no gateway {options['gateway']!r}; add it first with manage.py add_gateway.")
        present = Node.objects.present()
        url = f"tcp://{address}:{port}"
        if taken := present.filter(name=name).exclude(address=address).first():
            raise CommandError(f"There is a node {name} already, at {taken.address}: choose another name.")
        if taken := present.exclude(name=name).filter(Q(address=address) | Q(engine_url=url) | Q(ssh=target)).first():
            raise CommandError(f"That machine is a node already: {taken.name}, at {taken.address} ({taken.ssh}).")
        earlier = Node.objects.filter(name=name).first()
        node = Node(
            name=name,
            gateway=gateway,
            address=address,
            engine_url=url,
            ssh=target,
            ram_mib=options["ram_mib"] or (earlier.ram_mib if earlier else 0),
            cores=lent_cores(options["cores"]) or (earlier.cores if earlier else Decimal(0)),
            runtime=options["runtime"] or (earlier.runtime if earlier else ""),
        )
        actions.check_node(node)
        return node
