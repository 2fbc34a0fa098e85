"""Shared workspaces and their members: who may do what, and that an owner stays."""

import threading
from collections.abc import Callable

import pytest
from django.db import connection

from accounts import teams
from accounts.models import AuditEntry, Membership, Notification, Role, User, Workspace
from accounts.permissions import NotAllowed
from accounts.teams import TeamProblem
from accounts.workspaces import current_workspace, workspace_choice
from tests.factories import NOW, make_team, make_user, work_in, workspace_of

pytestmark = pytest.mark.django_db(transaction=True)


def role_of(user: User, workspace: Workspace) -> str | None:
    return Membership.objects.filter(user=user, workspace=workspace).values_list("role", flat=True).first()


def audited(workspace: Workspace) -> list[str]:
    rows = AuditEntry.objects.filter(target=f"workspace:{workspace.pk}").order_by("pk")
    return list(rows.values_list("action", flat=True))


# ---- creating and naming ----------------------------------------------------------------------------------


def test_who_creates_a_workspace_owns_it() -> None:
    user = make_user()

    workspace = teams.create_workspace(name="  Chair of Databases ", by=user)

    assert (workspace.name, workspace.personal_of, role_of(user, workspace)) == ("Chair of Databases", None, "owner")
    assert audited(workspace) == ["workspace.create"]


BAD_NAMES = {
    "": "cannot be blank",
    "   ": "cannot be blank",
    "\N{GRINNING FACE}" * 500: "at most 80 characters",
    "a\0b": "Control characters are not allowed here.",
    "a\u202eb": "direction of writing",
}


@pytest.mark.parametrize(("name", "sentence"), BAD_NAMES.items(), ids=["empty", "blank", "emoji", "nul", "direction"])
def test_a_name_that_cannot_be_is_a_sentence(name: str, sentence: str) -> None:
    user = make_user()
    workspace = make_team("Crew", owner=user)

    for deed in (
        lambda: teams.create_workspace(name=name, by=user),
        lambda: teams.rename(workspace=workspace, name=name, by=user),
    ):
        with pytest.raises(TeamProblem, match=sentence):
            deed()
    assert Workspace.objects.filter(personal_of=None).count() == 1
    assert Workspace.objects.get(pk=workspace.pk).name == "Crew"


def test_one_person_creates_so_many_and_no_more(settings: object) -> None:
    settings.BERTH_WORKSPACES_PER_USER = 2  # type: ignore[attr-defined]
    user, friend = make_user(), make_user()
    first, second = (teams.create_workspace(name=name, by=user) for name in ("one", "two"))

    with pytest.raises(TeamProblem, match="created 2 shared workspaces"):
        teams.create_workspace(name="three", by=user)
    # To give one away makes no room: each has a quota of its own.
    Membership.objects.create(workspace=first, user=friend, role=Role.OWNER)
    teams.leave(workspace=first, user=user)
    with pytest.raises(TeamProblem, match="created 2 shared workspaces"):
        teams.create_workspace(name="three", by=user)
    close(second, user)
    assert teams.create_workspace(name="three", by=user).pk


def close(workspace: Workspace, by: User) -> None:
    from reservations.closing import close_workspace

    close_workspace(workspace=workspace, by=by, now=NOW)


def test_where_only_admins_create_workspaces_the_sentence_says_so(settings: object) -> None:
    settings.BERTH_WORKSPACES_PER_USER = 0  # type: ignore[attr-defined]

    with pytest.raises(TeamProblem, match="created by the operators"):
        teams.create_workspace(name="one", by=make_user())


@pytest.mark.parametrize("role", ["manager", "member", None])
def test_only_an_owner_renames(role: str | None) -> None:
    user, workspace = someone_as(role)

    with pytest.raises(NotAllowed, match="Only an owner of Crew may rename it"):
        teams.rename(workspace=workspace, name="Other", by=user)
    assert Workspace.objects.get(pk=workspace.pk).name == "Crew"


def someone_as(role: str | None) -> tuple[User, Workspace]:
    user = make_user()
    workspace = make_team("Crew", owner=make_user("olga"))
    if role:
        Membership.objects.create(workspace=workspace, user=user, role=Role(role))
    return user, workspace


# ---- roles ------------------------------------------------------------------------------------------------


def test_an_owner_changes_roles_and_the_person_is_told() -> None:
    olga, max_ = make_user("olga"), make_user("max")
    workspace = make_team("Crew", owner=olga, member=max_)

    assert teams.change_role(workspace=workspace, user=max_, role=Role.MANAGER, by=olga, now=NOW)
    assert not teams.change_role(workspace=workspace, user=max_, role=Role.MANAGER, by=olga, now=NOW)

    assert role_of(max_, workspace) == "manager"
    (news,) = Notification.objects.all()
    assert (news.user, news.title, news.path) == (max_, "You are now manager of Crew", f"/workspaces/{workspace.pk}/")
    assert audited(workspace) == ["workspace.role"]


@pytest.mark.parametrize("role", ["manager", "member", None])
def test_nobody_else_changes_roles(role: str | None) -> None:
    user, workspace = someone_as(role)

    with pytest.raises(NotAllowed, match="Only an owner of Crew may change roles"):
        teams.change_role(
            workspace=workspace, user=User.objects.get(username="olga"), role=Role.MEMBER, by=user, now=NOW
        )


def test_a_role_change_that_would_leave_no_owner_is_a_sentence() -> None:
    olga = make_user("olga")
    workspace = make_team("Crew", owner=olga, manager=make_user())

    with pytest.raises(TeamProblem, match=r"left without an owner\. Make somebody else an owner first"):
        teams.change_role(workspace=workspace, user=olga, role=Role.MEMBER, by=olga, now=NOW)
    assert role_of(olga, workspace) == "owner"


def test_an_owner_who_cannot_log_in_any_more_is_no_owner_left() -> None:
    olga, gone = make_user("olga"), make_user("gone", is_active=False)
    workspace = make_team("Crew", owner=[olga, gone])

    with pytest.raises(TeamProblem, match="without an owner"):
        teams.leave(workspace=workspace, user=olga)
    assert teams.sole_owner_of(olga) == [workspace]


def at_once(*deeds: Callable[[], object]) -> list[object]:
    """What each gives or raises, all begun together."""
    barrier, answers = threading.Barrier(len(deeds)), list[object]([None] * len(deeds))

    def run(number: int) -> None:
        barrier.wait(timeout=30)
        try:
            answers[number] = deeds[number]()
        except Exception as problem:  # noqa: BLE001 - the answer of this one
            answers[number] = problem
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(deeds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return answers


def test_of_two_owners_who_leave_at_once_one_stays() -> None:
    first, second = make_user(), make_user()
    workspace = make_team("Crew", owner=[first, second])

    answers = at_once(
        lambda: teams.leave(workspace=workspace, user=first),
        lambda: teams.leave(workspace=workspace, user=second),
    )

    assert sorted(type(answer).__name__ for answer in answers) == ["NoneType", "TeamProblem"]
    assert Membership.objects.filter(workspace=workspace, role="owner").count() == 1


# ---- going ------------------------------------------------------------------------------------------------

REMOVES = [
    ("owner", "owner", True),
    ("owner", "manager", True),
    ("owner", "member", True),
    ("manager", "owner", False),
    ("manager", "manager", False),
    ("manager", "member", True),
    ("member", "member", False),
]


@pytest.mark.parametrize(("mine", "theirs", "may"), REMOVES)
def test_who_removes_whom(mine: str, theirs: str, may: bool) -> None:
    me, other = make_user(), make_user()
    workspace = make_team("Crew", owner=make_user())
    for user, role in ((me, mine), (other, theirs)):
        Membership.objects.create(workspace=workspace, user=user, role=role)

    if may:
        teams.remove_member(workspace=workspace, user=other, by=me, now=NOW)
    else:
        with pytest.raises(NotAllowed, match="of Crew may remove its"):
            teams.remove_member(workspace=workspace, user=other, by=me, now=NOW)

    assert (role_of(other, workspace) is None) is may
    assert Notification.objects.filter(user=other, title="You were removed from Crew").exists() is may


def test_who_was_removed_works_in_the_personal_workspace_again() -> None:
    olga, ben = make_user("olga"), make_user("ben")
    workspace = make_team("Crew", owner=olga, member=ben)
    work_in(ben, workspace)
    assert current_workspace(ben) == workspace

    teams.remove_member(workspace=workspace, user=ben, by=olga, now=NOW)

    assert current_workspace(ben) == workspace_of(ben)  # by the membership, with the old choice in memory
    assert User.objects.get(pk=ben.pk).current_workspace is None


def test_somebody_who_is_no_member_is_not_removed_twice() -> None:
    olga, ben = make_user("olga"), make_user("ben")
    workspace = make_team("Crew", owner=olga)

    with pytest.raises(TeamProblem, match="ben is not a member of Crew any more"):
        teams.remove_member(workspace=workspace, user=ben, by=olga, now=NOW)


def test_everybody_leaves_but_the_last_owner() -> None:
    olga, ben = make_user("olga"), make_user("ben")
    workspace = make_team("Crew", owner=olga, member=ben)

    teams.leave(workspace=workspace, user=ben)
    with pytest.raises(TeamProblem, match="without an owner"):
        teams.leave(workspace=workspace, user=olga)

    assert (role_of(ben, workspace), role_of(olga, workspace)) == (None, "owner")
    assert audited(workspace) == ["workspace.leave"]


def test_a_personal_workspace_is_neither_left_nor_shared_nor_closed() -> None:
    user, other = make_user(), make_user()
    workspace = workspace_of(user)

    for deed in (
        lambda: teams.leave(workspace=workspace, user=user),
        lambda: teams.change_role(workspace=workspace, user=user, role=Role.MEMBER, by=user, now=NOW),
        lambda: teams.remove_member(workspace=workspace, user=other, by=user, now=NOW),
        lambda: close(workspace, user),
    ):
        with pytest.raises(TeamProblem, match="A personal workspace has no other members"):
            deed()


# ---- switching --------------------------------------------------------------------------------------------


def test_the_menu_has_the_current_workspace_and_the_others() -> None:
    user = make_user("ada")
    crew, lab = make_team("Crew", member=user), make_team("Lab", owner=user)
    make_team("Closed", owner=user, closed_at=NOW)
    make_team("Foreign", owner=make_user())

    at_first = workspace_choice(user)
    teams.switch(user=user, workspace=lab)
    later = workspace_choice(User.objects.get(pk=user.pk))
    teams.switch(user=user, workspace=workspace_of(user))
    back = workspace_choice(User.objects.get(pk=user.pk))

    assert (at_first.current, at_first.others, at_first.more) == (workspace_of(user), [crew, lab], False)
    assert (later.current, later.others) == (lab, [workspace_of(user), crew])
    assert back.current == workspace_of(user)


def test_a_workspace_that_was_closed_is_nobodys_current_one() -> None:
    user = make_user()
    work_in(user, make_team("Closed", owner=user, closed_at=NOW))

    assert workspace_choice(user).current == current_workspace(user) == workspace_of(user)
