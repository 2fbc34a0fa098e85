"""When the rounds see something on a node that no row wants: it is there to be taken away after the second sight."""

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta

from django.db.models import QuerySet

from compute.models import Node
from reservations.models import Orphan

GRACE = timedelta(seconds=60)


def note(node: Node, names: Collection[str], earlier: QuerySet[Orphan], now: datetime) -> Iterator[tuple[Orphan, bool]]:
    """The row of each of `names`, and whether it was seen before and is past its grace.

    `earlier` are the rows of this kind on the node; those that are not among `names` any more are forgotten.
    """
    earlier.exclude(name__in=names).delete()
    for name in sorted(names):
        row, new = Orphan.objects.get_or_create(node=node, name=name, defaults={"first_seen_at": now})
        yield row, not new and now - row.first_seen_at >= GRACE
