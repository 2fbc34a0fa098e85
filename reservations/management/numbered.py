"""What commands about single reservations have in common."""

from django.core.management.base import CommandError, CommandParser

from reservations.models import Reservation


def add_number(parser: CommandParser, *, many: bool = False) -> None:
    """The argument RESERVATION: its number, as customers see it behind the #."""
    words = "numbers of reservations, as 17" if many else "its number, as 17"
    parser.add_argument("reservation", type=int, metavar="RESERVATION", nargs="+" if many else None, help=words)


def reservation_of(number: int) -> Reservation:
    """Raises CommandError, which names it, when there is none."""
    found = rows_of([number])
    return found[0]


def rows_of(numbers: list[int]) -> list[Reservation]:
    """Each once, in the order they were named. Raises CommandError with every number that nobody has."""
    rows = Reservation.objects.for_pages().in_bulk([n for n in numbers if 0 < n < 2**63])
    if unknown := sorted(set(numbers) - rows.keys()):
        raise CommandError(f"There is no reservation {', '.join(map(str, unknown))}.")
    return [rows[number] for number in dict.fromkeys(numbers)]
