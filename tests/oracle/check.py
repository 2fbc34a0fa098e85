"""All promises at once."""

import time
from dataclasses import dataclass, field

from lab import Lab
from tests.oracle import machines, reach, rows
from tests.oracle.foreign import Foreign

#: Those that `Oracle.settled` looks at, of docs/promises.md.
PROMISES = range(1, 11)


def check_all(lab: Lab, database_url: str, foreign: Foreign | None = None) -> list[str]:
    """Everything that is broken at this moment, each line with the number of its promise; empty when all hold.

    What is just being started or taken down may look wrong for an instant: poll it, or use Oracle.settled.
    """
    seen = machines.look(lab)
    found = rows.read(database_url)
    broken = [*rows.violations(found), *machines.violations(found, seen)]
    return [*broken, *(foreign.violations(lab) if foreign else ())]


def check_reach(lab: Lab, database_url: str) -> list[str]:
    """Promise 8, from outside: slower than the others, so it is asked when those hold."""
    return list(reach.violations(rows.read(database_url), lab))


@dataclass(frozen=True)
class Oracle:
    """The oracle of one lab and its portal."""

    lab: Lab
    database_url: str
    foreign: Foreign
    reported: set[str] = field(default_factory=set)

    def check_all(self) -> list[str]:
        return check_all(self.lab, self.database_url, self.foreign)

    def settled(self, seconds: float = 60) -> float:
        """Wait until every promise holds; fails with what is still broken after that time.

        Returns after how many seconds they held, without the time that the last look took. What cannot mend (a
        wrong history) is reported once, to the test that broke it.
        """
        begin = time.monotonic()
        deadline = begin + seconds
        while True:
            looked = time.monotonic()
            broken = self._news(self.check_all()) or self._news(check_reach(self.lab, self.database_url))
            if not broken:
                return looked - begin
            if time.monotonic() > deadline:
                self.reported.update(broken)
                raise AssertionError(f"after {seconds:g} s these promises are broken:\n" + "\n".join(broken))
            time.sleep(0.5)

    def _news(self, broken: list[str]) -> list[str]:
        return [sentence for sentence in broken if sentence not in self.reported]
