"""What a long command is doing: on a terminal a line that is written over, elsewhere only what is finished."""

import time
from typing import Protocol

EVERY_S = 0.2


class Output(Protocol):
    def write(self, msg: str = "", style_func: None = None, ending: str | None = None) -> None: ...


class Progress:
    """`tell` is of the moment, `say` stays."""

    def __init__(self, output: Output, terminal: bool) -> None:
        self.output, self.terminal = output, terminal
        self.told_at, self.width = 0.0, 0

    def tell(self, text: str) -> None:
        now = time.monotonic()
        if self.terminal and now - self.told_at >= EVERY_S:
            self.told_at = now
            self._over(text, ending="")

    def say(self, text: str) -> None:
        self._over(text, ending="\n") if self.width else self.output.write(text)
        self.width = 0

    def _over(self, text: str, *, ending: str) -> None:
        self.output.write(f"\r{text.ljust(self.width)}", ending=ending)
        self.width = len(text)
