"""A size that is none of the catalogue's: cores and RAM as a customer set them."""

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class CustomSize:
    """In the place of a `Size` wherever something is booked."""

    cores: Decimal
    ram_mib: int
    slug: str = ""
    active: bool = True

    @property
    def name(self) -> str:
        return "Custom"
