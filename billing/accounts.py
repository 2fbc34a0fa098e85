"""A workspace's account: made when it is first needed, locked while what it owes changes."""

from django.conf import settings
from django.db import transaction

from accounts.models import Workspace
from billing.models import BillingAccount


def account_of(workspace_id: int) -> BillingAccount:
    """The account of a workspace, with usual values when nobody has set any."""
    usual = {"currency": settings.BERTH_CURRENCY, "credit_limit": settings.BERTH_CREDIT_LIMIT}
    rows = BillingAccount.objects.select_related("workspace")
    return rows.get_or_create(workspace_id=workspace_id, defaults=usual)[0]


def lock(workspace_id: int) -> BillingAccount:
    """The account, while nobody else books for it or enters anything until this transaction ends.

    It is the workspace's row that is locked, as for bookings: what is held and what was charged change together.
    """
    assert transaction.get_connection().in_atomic_block  # noqa: S101 - a lock without a transaction is none
    Workspace.objects.select_for_update(no_key=True).get(pk=workspace_id)
    return account_of(workspace_id)
