"""Recomputing the books of 1,000 workspaces with 10,000 reservations and their invoices."""

import time
from datetime import UTC, datetime

from tests.bench import invoices as ground_of_invoices
from tests.bench.ground import Ground
from tests.bench.place import scratch_database
from tests.bench.table import Outcome, Row

BOUND_S = 60.0


def measure(ground: Ground) -> Outcome:
    with scratch_database():
        from billing import audit, invoices

        june = datetime(2026, 6, 1, 1, tzinfo=UTC)
        ground_of_invoices._serve(ground_of_invoices._workspaces(), datetime(2026, 5, 2, tzinfo=UTC))
        invoices.issue_due(june)
        begun, busy = time.perf_counter(), time.process_time()
        found = audit.examine(june)
        took, cpu = time.perf_counter() - begun, time.process_time() - busy
    if (found.reservations, found.findings) != (10_000, []):
        raise AssertionError(f"{found.reservations} reservations, {found.findings[:3]}")
    what = f"{found.reservations:,} reservations, {found.entries:,} entries and {found.invoices:,} invoices"
    return Outcome("audit", [Row(f"recomputing {what}", took, "s", BOUND_S)], [f"{cpu:.1f} s of this process"])
