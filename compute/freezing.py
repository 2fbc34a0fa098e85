"""Holds a mounted volume still for some seconds, so that its image can be copied as a whole one.

While it is frozen (fsfreeze of util-linux), everything that was written is in the image, and whoever writes on waits.
The node itself lets go after the time that was asked for, whatever becomes of us, of the connection, or of the shell
there. That time is shorter than the 22 s in which multi-mount protection takes a volume for abandoned.
"""

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from compute import volume_scripts
from compute.shell import CommandFailed, Host, NoAnswer

MOST_S = 15
_ANSWERS_WITHIN_S = 45

# The second one to let go: of a freeze that came too late, or whose shell was killed. It has the folder open, since
# one that was unmounted lazily in the meantime has no path any more, and could not be let go by anybody.
_HOLD = f"""{volume_scripts.LOCK}
mounted "$mount" || {{ echo "$name is not mounted" >&2; exit 1; }}
(
  sleep $((hold_s + 12)) 8<&-
  for try in 1 2 3 4 5 6; do fsfreeze -u /proc/self/fd/8 && break; sleep 5 8<&-; done
) </dev/null >/dev/null 2>&1 8<"$mount" 9>&- &
second=$!
trap 'exit 1' HUP INT TERM
trap '' PIPE  # nobody may be there to hear what is said below
bounded 10 fsfreeze -f "$mount" || {{
  [ "$code" -eq 124 ] || kill "$second"
  echo "$name cannot be frozen: $(cat "$said")" >&2; exit 1
}}
trap 'fsfreeze -u "$mount"; kill "$second"' EXIT
echo frozen
late=0
timeout "$hold_s" cat >/dev/null || late=$?
[ "$late" -eq 0 ] && echo held || echo late
"""


class Freeze:
    """A volume that is frozen now."""

    def __init__(self, program: "subprocess.Popen[str]") -> None:
        self.program = program
        self.held: bool | None = None

    def thaw(self) -> bool:
        """Let it go; whether it was frozen until now."""
        if self.held is None:
            if self.program.stdin:
                self.program.stdin.close()
            word = self.program.stdout.readline().strip() if self.program.stdout else ""
            self.held = self.program.wait() == 0 and word == "held"
        return self.held


@contextmanager
def frozen(node: Host, name: str, seconds: int) -> Iterator[Freeze]:
    """The volume of this name, frozen on the node for so long at most. Raises CommandFailed or NoAnswer."""
    values = {
        "name": name,
        "mount": f"{volume_scripts.MOUNTED_AT}/{name}",
        "store": f"{volume_scripts.ROOT}/stores/{name}",
        "said": f"/run/berth-{name}.said",
        "hold_s": str(min(seconds, MOST_S)),
    }
    argv = ["sh", "-c", volume_scripts.assign(values) + _HOLD]
    pipe = subprocess.PIPE
    with subprocess.Popen(node.program(argv), stdin=pipe, stdout=pipe, stderr=pipe, text=True) as program:
        too_late = threading.Timer(_ANSWERS_WITHIN_S, program.kill)
        too_late.start()
        try:
            if program.stdout is None or program.stdout.readline().strip() != "frozen":
                _, said = program.communicate()
                if program.returncode in {255, -9}:
                    raise NoAnswer(f"{node.target} did not let {name} be frozen: {said.strip()[-300:]}")
                raise CommandFailed(node.target, ["fsfreeze"], program.returncode, said)
            freeze = Freeze(program)
            try:
                yield freeze
            finally:
                freeze.thaw()
        finally:
            too_late.cancel()
