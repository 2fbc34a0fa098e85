"""manage.py add_gateway"""

import ipaddress
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from compute import actions
from compute.models import Gateway


class Command(BaseCommand):
    help = "Take a gateway in, or bring the one of this name up to date."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="what it shall be called")
        parser.add_argument("--public-address", required=True, help="what customers connect to")
        parser.add_argument(
            "--driver",
            choices=Gateway.Driver.values,
            default=Gateway.Driver.IPTABLES,
            help="direct: no machine of its own, the ports that the engine publishes are the public ones",
        )
        parser.add_argument("--ssh", default="", help="user@host; without it: this machine")
        parser.add_argument("--private-subnet", default="", help="the nodes' network, as 10.0.0.0/24")
        parser.add_argument("--ports", default="20000-29999", help="public ports to lend (default 20000-29999)")

    def handle(
        self, *, name: str, public_address: str, driver: str, ssh: str, private_subnet: str, ports: str, **options: Any
    ) -> None:
        first, dash, last = ports.partition("-")
        if not (first.isdigit() and dash and last.isdigit()):
            raise CommandError(f"--ports must look like 20000-29999, not {ports!r}.")
        if driver == Gateway.Driver.IPTABLES:
            try:
                ipaddress.IPv4Address(public_address)
                # As iptables-save prints it: anything else would look like drift for ever.
                private_subnet = str(ipaddress.IPv4Network(private_subnet))
            except ValueError as problem:
                raise CommandError(
                    f"A gateway with iptables needs an IPv4 --public-address and --private-subnet: {problem}"
                ) from None
        wanted = Gateway(
            name=name,
            driver=driver,
            public_address=public_address,
            private_subnet=private_subnet,
            ssh=ssh,
            port_first=int(first),
            port_last=int(last),
        )
        try:
            row, new = actions.add_gateway(gateway=wanted, by="manage.py add_gateway")
        except actions.CannotAdd as problem:
            raise CommandError(str(problem)) from problem
        self.stdout.write(f"Gateway {row.name} {'added' if new else 'is up to date'}: {row.public_address}.")
