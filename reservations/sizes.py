"""A size that is none of the catalogue's: cores and RAM as a customer set them."""

from dataclasses import dataclass
from decimal import Decimal

CORE_STEP = Decimal("0.25")
RAM_STEP_MIB = 64
LEAST_RAM_MIB = 64
CUSTOM = "custom"  # where a form asks for the slug of a size; no size of the catalogue may have it


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
