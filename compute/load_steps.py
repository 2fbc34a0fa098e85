"""The step function of what each node has lent (docs/adr/0003): how it is changed, checked and computed anew.

Only `capacity` changes it, in the transaction that changes an allocation.
"""

from datetime import datetime, timedelta
from decimal import Decimal

from django.db import connection, transaction

from compute import scheduler
from compute.models import Node
from compute.scheduler import Step


def add(node_id: int, start: datetime, end: datetime, ram_mib: int, cores: Decimal) -> None:
    """Add to the step function of the node over [start, end); the caller has locked the node's row."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO compute_loadstep (node_id, at, ram_mib, cores)
            SELECT %(node)s, edge.at, coalesce(before.ram_mib, 0), coalesce(before.cores, 0)
            FROM unnest(ARRAY[%(start)s, %(end)s]::timestamptz[]) AS edge(at)
            LEFT JOIN LATERAL (
                SELECT ram_mib, cores FROM compute_loadstep
                WHERE node_id = %(node)s AND at <= edge.at ORDER BY at DESC LIMIT 1
            ) before ON true
            ON CONFLICT DO NOTHING
            """,
            {"node": node_id, "start": start, "end": end},
        )
        cursor.execute(
            "UPDATE compute_loadstep SET ram_mib = ram_mib + %s, cores = cores + %s"
            " WHERE node_id = %s AND at >= %s AND at < %s",
            [ram_mib, cores, node_id, start, end],
        )


def forget_past(node_id: int, now: datetime) -> None:
    """Drop the steps before the one that holds now, and later ones that change nothing."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            DELETE FROM compute_loadstep WHERE id IN (
                SELECT id FROM (
                    SELECT id, at, ram_mib, cores,
                           lead(at) OVER line AS next_at,
                           lag(ram_mib, 1, 0) OVER line AS ram_before,
                           lag(cores, 1, 0) OVER line AS cores_before
                    FROM compute_loadstep WHERE node_id = %s
                    WINDOW line AS (ORDER BY at)
                ) step
                -- The step that holds now stays even if it repeats its predecessor, which goes as past.
                WHERE next_at <= %s OR (at > %s AND ram_mib = ram_before AND cores = cores_before)
            )
            """,
            [node_id, now, now],
        )


def of(node: Node) -> list[Step]:
    """The node's step function, in order of time."""
    return [Step(*row) for row in node.steps.order_by("at").values_list("at", "ram_mib", "cores")]


def wrong_steps(now: datetime) -> list[str]:
    """Sentences on nodes whose step function is not the sum of their held allocations (there should be none)."""
    sentences = []
    for node in Node.objects.present():
        steps = of(node)
        held = list(node.allocations.held())
        instants = {
            now,
            *(s.at for s in steps),
            *(a.during.lower for a in held),
            *(a.during.upper for a in held),
        }
        for instant in sorted(i for i in instants if i >= now):
            planned = [a for a in held if a.during.lower <= instant < a.during.upper]
            ram, cores = scheduler.peak(steps, instant, instant + timedelta(microseconds=1))
            if (ram, cores) != (sum(a.ram_mib for a in planned), sum((a.cores for a in planned), Decimal(0))):
                # Said in the same words at each look while it is wrong now: doctor reports what it finds twice.
                when = "now" if instant == now else f"at {instant:%Y-%m-%d %H:%M:%S} UTC"
                sentences.append(f"{node.name}: {when} the plan and the bookings differ")
                break
    return sentences


def rebuild(node: Node) -> None:
    """Compute the node's step function anew from its held allocations."""
    with transaction.atomic():
        Node.objects.select_for_update(no_key=True).get(pk=node.pk)
        node.steps.all().delete()
        for allocation in node.allocations.held():
            add(
                node.pk,
                allocation.during.lower,
                allocation.during.upper,
                allocation.ram_mib,
                allocation.cores,
            )
