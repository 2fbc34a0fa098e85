"""Images of the stand-in upstream registry: built once into the cache, copied into every lab."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


def ensure(cache: Path, echo: Callable[[str], None], *, rebuild: bool = False) -> None:
    del cache, echo, rebuild


def publish(cache: Path, registry: Path) -> None:
    del cache, registry
