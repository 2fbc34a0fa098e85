"""Until when a place and its ports could be held on, as everything is booked now. Previews: nothing is locked."""

from collections.abc import Collection
from datetime import datetime

from django.db import models
from django.db.models import Func, Q

from compute import load_steps
from compute.capacity import window
from compute.models import Allocation, Forward


def place_free_until(allocation: Allocation, latest: datetime) -> datetime:
    """Until when `capacity.extend` would hold the place, at most `latest`. One query, if the node is there."""
    node = allocation.node
    end: datetime = allocation.during.upper
    ram_mib, cores = node.ram_mib - allocation.ram_mib, node.cores - allocation.cores
    steps = load_steps.of(node)
    for step, over in zip(steps, [*(step.at for step in steps[1:]), latest], strict=False):
        if over > end and step.at < latest and (step.ram_mib > ram_mib or step.cores > cores):
            return max(step.at, end)
    return latest


def ports_free_until(forwards: Collection[Forward], latest: datetime) -> datetime:
    """Until when `capacity.extend_ports` would hold all of these, at most `latest`. One query."""
    if not forwards:
        return latest
    same = Q()
    for forward in forwards:
        same |= Q(gateway=forward.gateway_id, public_port=forward.public_port)
        same |= Q(node=forward.node_id, node_port=forward.node_port)
    end = min(forward.during.upper for forward in forwards)
    if latest <= end:
        return latest
    others = Forward.objects.filter(same, during__overlap=window(end, latest))
    others = others.exclude(pk__in=[forward.pk for forward in forwards])
    begins = Func("during", function="lower", output_field=models.DateTimeField())
    first: datetime | None = others.aggregate(first=models.Min(begins))["first"]
    return first or latest
