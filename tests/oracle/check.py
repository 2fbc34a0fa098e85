"""All promises at once."""

import time
from dataclasses import dataclass, field

from lab import Lab
from tests.oracle import machines, rows
from tests.oracle.foreign import Foreign


def check_all(lab: Lab, database_url: str, foreign: Foreign | None = None) -> list[str]:
    """Everything that is broken at this moment, each line with the number of its promise; empty when all hold.

    What is just being started or taken down may look wrong for an instant: poll it, or use Oracle.settled.
    """
    seen = machines.look(lab)
    found = rows.read(database_url)
    broken = [*rows.violations(found), *machines.violations(found, seen)]
    return [*broken, *(foreign.violations(lab) if foreign else ())]


@dataclass(frozen=True)
class Oracle:
    """The oracle of one lab and its portal."""

    lab: Lab
    database_url: str
    foreign: Foreign
    reported: set[str] = field(default_factory=set)

    def check_all(self) -> list[str]:
        return check_all(self.lab, self.database_url, self.foreign)

    def settled(self, seconds: float = 60) -> None:
        """Wait until every promise holds; fails with what is still broken after that time.

        What cannot mend (a wrong history) is reported once, to the test that broke it.
        """
        deadline = time.monotonic() + seconds
        while broken := [sentence for sentence in self.check_all() if sentence not in self.reported]:
            if time.monotonic() > deadline:
                self.reported.update(broken)
                raise AssertionError(f"after {seconds:g} s these promises are broken:\n" + "\n".join(broken))
            time.sleep(0.5)
