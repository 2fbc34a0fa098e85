"""manage.py add_node"""

from decimal import Decimal, InvalidOperation
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from compute import actions
from compute.models import Gateway, Node


class Command(BaseCommand):
    help = (
        "Take a compute node in, or bring the one of this name up to date. RAM and cores are read from its engine"
        " (less a reserve for its own system) unless they are given. With --ssh the guard is put on it, or brought"
        " up to date: a timer that ends containers when the node is cut off, and their firewall. Refused"
        " when the engine does not answer."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--gateway", required=True, help="the gateway that leads to it")
        parser.add_argument("--address", required=True, help="its private address, where ports are published")
        parser.add_argument(
            "--engine", required=True, help="tcp://host:2376 (mutual TLS) or unix:///var/run/docker.sock"
        )
        parser.add_argument(
            "--ssh",
            default="",
            help="user@host for volumes; without it volumes are the engine's and have no size limit",
        )
        parser.add_argument("--ram-mib", type=int, default=0, help="RAM to lend")
        parser.add_argument(
            "--runtime",
            help="as runsc (gVisor), one that its engine knows; without it: as it is, at first the engine's own",
        )
        parser.add_argument("--cores", default="0", help="cores to lend")

    def handle(
        self,
        *,
        name: str,
        gateway: str,
        address: str,
        engine: str,
        ssh: str,
        ram_mib: int,
        cores: str,
        runtime: str | None,
        **options: Any,
    ) -> None:
        zone = Gateway.objects.filter(name=gateway).first()
        if zone is None:
            raise CommandError(f"There is no gateway {gateway!r}; add it first with manage.py add_gateway.")
        try:
            lent_cores = Decimal(cores)
        except InvalidOperation:
            raise CommandError(f"--cores must be a number, not {cores!r}.") from None
        if not lent_cores.is_finite():
            raise CommandError(f"--cores must be a number, not {cores!r}.")
        if ram_mib < 0 or lent_cores < 0:
            raise CommandError("--ram-mib and --cores must not be negative.")
        if runtime is None:
            runtime = Node.objects.filter(name=name).values_list("runtime", flat=True).first() or ""
        wanted = Node(
            name=name,
            gateway=zone,
            address=address,
            engine_url=engine,
            ssh=ssh,
            ram_mib=ram_mib,
            cores=lent_cores,
            runtime=runtime,
        )
        try:
            row, new = actions.add_node(node=wanted, by="manage.py add_node")
        except actions.CannotAdd as problem:
            raise CommandError(str(problem)) from problem
        self.stdout.write(
            f"Node {row.name} {'added' if new else 'is up to date'}: lends {row.ram_mib} MiB"
            f" and {row.cores.normalize():f} cores."
        )
