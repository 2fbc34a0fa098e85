"""What add_node and enrol_node ask about what a node lends."""

from decimal import Decimal, InvalidOperation

from django.core.management.base import CommandError, CommandParser


def add_lent_arguments(parser: CommandParser) -> None:
    parser.add_argument("--ram-mib", type=_mib, default=0, help="RAM to lend (default: what it has, less a reserve)")
    parser.add_argument("--cores", default="0", help="cores to lend (default: what it has)")
    parser.add_argument(
        "--runtime",
        help="as runsc (gVisor), one that its engine knows; without it: as it is, at first the engine's own",
    )


def lent_cores(text: str) -> Decimal:
    """Raises CommandError."""
    try:
        cores = Decimal(text)
    except InvalidOperation:
        raise CommandError(f"--cores must be a number, not {text!r}.") from None
    if not cores.is_finite():
        raise CommandError(f"--cores must be a number, not {text!r}.")
    if cores < 0:
        raise CommandError("--ram-mib and --cores must not be negative.")
    return cores


def _mib(text: str) -> int:
    number = int(text)
    if number < 0:
        raise CommandError("--ram-mib and --cores must not be negative.")
    return number
