"""What commands about single reservations have in common."""

from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, CommandParser

from accounts.validators import no_control_characters
from reservations.models import Reservation

LONGEST_REASON = 300


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


def checked_reason(reason: str) -> str:
    """What customers will read. Raises CommandError."""
    text = reason.strip()
    if not text:
        raise CommandError("--reason must say something: the customer reads it.")
    if len(text) > LONGEST_REASON:
        raise CommandError(f"--reason has at most {LONGEST_REASON} characters.")
    try:
        no_control_characters(text)
    except ValidationError as problem:
        raise CommandError(f"--reason: {problem.messages[0]}") from problem
    return text
