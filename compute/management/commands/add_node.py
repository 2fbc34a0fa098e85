"""manage.py add_node"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from compute import actions
from compute.management.lent import add_lent_arguments, lent_cores
from compute.models import Gateway, Node


class Command(BaseCommand):
    help = (
        "Take a compute node in whose engine is set up already (manage.py enrol_node does that too), or bring the one"
        " of this name up to date. RAM and cores are read from its engine"
        " (less a reserve for its own system) unless they are given. With --ssh the guard is put on it, or brought"
        " up to date: a timer that ends containers when the node is cut off, and their firewall. Refused"
        " when the engine does not answer."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="what it shall be called")
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
        add_lent_arguments(parser)

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
        if runtime is None:
            runtime = Node.objects.filter(name=name).values_list("runtime", flat=True).first() or ""
        wanted = Node(
            name=name,
            gateway=zone,
            address=address,
            engine_url=engine,
            ssh=ssh,
            ram_mib=ram_mib,
            cores=lent_cores(cores),
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
