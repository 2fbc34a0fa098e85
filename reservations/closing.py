"""Closes a shared workspace, of which nothing may be live or kept: neither runs nor costs anything any more then."""

from datetime import datetime

from django.db import transaction

from accounts import teams
from accounts.models import User, Workspace
from accounts.teams import TeamProblem
from reservations.models import Reservation, WaitingEntry, WorkspaceVolume


def close_workspace(*, workspace: Workspace, by: User, now: datetime) -> None:
    """Nothing can be booked for it from now on. Raises NotAllowed, or TeamProblem with what is in the way."""
    with transaction.atomic(durable=True):
        row = teams.lock(workspace.pk)  # nobody books for it meanwhile
        teams.check_may_close(row, by)
        if sentences := in_the_way(row):
            raise TeamProblem(" ".join(sentences))
        teams.note_closed(row, by=by, now=now)


def in_the_way(workspace: Workspace) -> list[str]:
    """What has to go first, a sentence for each kind."""
    live = Reservation.objects.filter(workspace=workspace).live().count()
    kept = WorkspaceVolume.objects.present().filter(workspace=workspace).count()
    waiting = WaitingEntry.objects.filter(workspace=workspace).open().count()
    found = [
        (live, "is live or booked: delete it or wait for its end.", "are live or booked: delete them or wait for it."),
        (kept, "is there and costs: delete it, with what is in it.", "are there and cost: delete them."),
        (waiting, "is open: cancel it.", "are open: cancel them."),
    ]
    words = [("reservation", "reservations"), ("kept volume", "kept volumes"), ("place in line", "places in line")]
    return [
        f"1 {one} {of_one}" if count == 1 else f"{count} {many} {of_many}"
        for (count, of_one, of_many), (one, many) in zip(found, words, strict=True)
        if count
    ]
