"""Command line of the benches; see `python -m tests.bench --help`."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from tests.bench.ground import BenchError, Ground, stand_on
from tests.bench.table import Outcome, markdown, text

BENCHES = {
    "first-answer": "from the POST of a booking to its first answer, beside a bare docker run",
    "burst": "40 bookings at once, beside 8 threads with 40 bare docker runs",
    "races": "double-bookings in 10,000 races on last slots and ports",
    "audit": "recomputing the books of 1,000 workspaces with 10,000 reservations",
    "budget": "1,000 bookings at once against a budget, and prepaid credit, that is enough for 10",
    "hanging": "10 bookings on one node while another node's engine hangs, beside the same without",
    "place": "choosing and recording a place among 1,000 nodes and 100,000 live allocations",
    "fleet": "the monitor's pages over 1,000 nodes with 20 containers each",
    "invoices": "a month's invoices of 1,000 workspaces with 10,000 reservations, and their PDFs",
    "billing": "the pages about money with 10,000 ledger entries, and how many queries they take",
    "live": "from a commit to 500 open pages of one workspace",
    "availability": "the answer while choosing, and the week's picture, with 1,000 nodes and 100,000 reservations",
    "offering": "a round of the waiting list with 1,000 in line among 1,000 nodes",
    "pages": "list, detail, calendar and feed of a workspace with 1,000 reservations, and how many queries they take",
    "forwards": "a resync of a gateway with 10,000 forwards, 1,000 of them for a few sources only",
    "metrics": "a scrape of /metrics with 1,000 nodes",
    "sampling": "readings of 1,000 simulated nodes with 20 containers each, their roll-up, and charts over two weeks",
    "memory": "web, worker, beat and live when idle",
    "jupyterhub": "what JupyterHub with DockerSpawner needs for the same, where it is installed",
}
Measure = Callable[[Ground], Outcome]


def main() -> int:
    options = _options()
    # A plain kill ends it as Ctrl-C does: what was booked is deleted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    outcomes: list[Outcome] = []
    try:
        with stand_on(options.lab, options.stack) as ground:
            for name in options.names or BENCHES:
                module = import_module(f"tests.bench.{name.replace('-', '_')}")
                measure: Measure = module.measure
                outcomes.append(measure(ground))
                if not (options.json or options.markdown):
                    print(text(outcomes[-1]) + "\n", flush=True)
    except BenchError as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; what it had booked is deleted", file=sys.stderr)
        return 130
    print(json.dumps([o.as_json() for o in outcomes], indent=2) if options.json else markdown(outcomes), end="")
    if options.report:
        options.report.write_text(markdown(outcomes))
    return 0


def _options() -> argparse.Namespace:
    listing = "\n".join(f"  {name:<14}{says}" for name, says in BENCHES.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measures Berth on a running lab and stack, always beside something to compare with.",
        epilog=f"benches:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which benches (default: all)")
    parser.add_argument("--lab", default=os.environ.get("BERTH_LAB", "bench"), help="name of the lab (%(default)s)")
    parser.add_argument(
        "--stack", default=os.environ.get("BERTH_STACK", "bench"), help="name of the stack (%(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--markdown", action="store_true", help="print the markdown table only")
    parser.add_argument("--report", type=Path, metavar="FILE", help="also write the markdown table to FILE")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHES):
        parser.error(f"no such bench: {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    sys.exit(main())
