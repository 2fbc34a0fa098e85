"""An oracle: says whether the promises of docs/promises.md hold, written apart from the portal's own code.

It reads the rows with plain SQL and the machines with their own tools (docker, iptables-save, conntrack, findmnt,
ps), so that a fault in the portal's models or in its doctor cannot hide here too. The numbers are the promises'.
"""

from tests.oracle.check import PROMISES, Oracle, check_all
from tests.oracle.foreign import Foreign

__all__ = ["PROMISES", "Foreign", "Oracle", "check_all"]
