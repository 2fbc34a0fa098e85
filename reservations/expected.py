"""How many containers should run on each node (the setting BERTH_EXPECTED_CONTAINERS_FUNCTION names it)."""

from collections.abc import Collection

from django.db.models import Count

from reservations.models import Container
from reservations.states import State


def containers_expected(node_ids: Collection[int]) -> dict[int, int]:
    """By the id of the node; one without any is not in it."""
    rows = Container.objects.present().current().filter(node__in=node_ids, reservation__state=State.RUNNING)
    return dict(rows.values_list("node").annotate(count=Count("pk")).order_by())
