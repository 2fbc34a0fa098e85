"""The pages of workspaces and invitations, but for those that tell of reservations (reservations/views/workspace)."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import redirect_to_login
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import inviting, permissions, teams
from accounts.inviting import HELD_INVITATION, Sent
from accounts.models import Invitation, Membership, Role, User, Workspace
from accounts.team_forms import InvitationForm, WorkspaceForm
from accounts.teams import TeamProblem
from accounts.views import Asked
from accounts.workspaces import current_workspace

NOT_MAILED = "The mail could not be sent at the moment. The invitation stands; send it again in a while."


def member_of(request: Asked, pk: int) -> Membership:
    """The visitor's membership, with its workspace. Anybody else's does not exist."""
    rows = Membership.objects.select_related("workspace__personal_of")
    return get_object_or_404(rows, user=request.user, workspace=pk)


@login_required
@require_GET
def index(request: Asked) -> HttpResponse:
    rows = (
        Membership.objects.filter(user=request.user)
        .select_related("workspace")
        .annotate(members=Count("workspace__memberships"))
        .order_by("workspace__name", "pk")
    )
    mine = sorted(rows, key=lambda row: row.workspace.personal_of_id is None)
    context = {
        "memberships": [row for row in mine if row.workspace.closed_at is None],
        "closed": [row for row in mine if row.workspace.closed_at is not None],
        "invitations": inviting.invitations_for(request.user, timezone.now()),
        "current": current_workspace(request.user),
    }
    return render(request, "workspaces/index.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def new(request: Asked) -> HttpResponse:
    form = WorkspaceForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            workspace = teams.create_workspace(name=form.cleaned_data["name"], by=request.user)
        except TeamProblem as problem:
            form.add_error("name", str(problem))
        else:
            teams.switch(user=request.user, workspace=workspace)
            messages.success(request, f"{workspace} is yours, and what you book from now on is for it.")
            return redirect("workspaces:detail", pk=workspace.pk)
    return render(request, "workspaces/new.html", {"form": form}, status=422 if form.errors else 200)


@login_required
@require_http_methods(["GET", "POST"])
def rename(request: Asked, pk: int) -> HttpResponse:
    membership = member_of(request, pk)
    workspace = membership.workspace
    permissions.check_may_rename(Role(membership.role), workspace)
    form = WorkspaceForm(request.POST or None, initial={"name": workspace.name})
    if request.method == "POST" and form.is_valid():
        try:
            teams.rename(workspace=workspace, name=form.cleaned_data["name"], by=request.user)
        except TeamProblem as problem:
            form.add_error("name", str(problem))
        else:
            return redirect("workspaces:detail", pk=pk)
    context = {"form": form, "workspace": workspace}
    return render(request, "workspaces/rename.html", context, status=422 if form.errors else 200)


@login_required
@require_POST
def switch(request: Asked) -> HttpResponse:
    """What is booked from now on is for another workspace; back to where the visitor was."""
    text = request.POST.get("workspace", "")
    rows = Workspace.objects.of(request.user).filter(closed_at=None)
    workspace = get_object_or_404(rows, pk=int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0)
    teams.switch(user=request.user, workspace=workspace)
    messages.success(request, f"What you book from now on is for {workspace}.")
    back = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()}, require_https=request.is_secure()):
        return redirect(back)
    return redirect("workspaces:index")


# ---- members ----------------------------------------------------------------------------------------------


@login_required
@require_POST
def role(request: Asked, pk: int, user: int) -> HttpResponse:
    workspace = member_of(request, pk).workspace
    member = _member(workspace, user)
    if member is None:
        return _no_member(request, workspace)
    person, given = member.user, request.POST.get("role", "")
    if given not in Role:
        messages.error(request, "Choose a role: owner, manager or member.")
        return redirect("workspaces:detail", pk=pk)
    try:
        if teams.change_role(workspace=workspace, user=person, role=Role(given), by=request.user, now=timezone.now()):
            messages.success(request, f"{person} is {given} of {workspace} now.")
    except TeamProblem as problem:
        messages.error(request, str(problem))
    return redirect("workspaces:detail", pk=pk)


@login_required
@require_http_methods(["GET", "POST"])
def remove(request: Asked, pk: int, user: int) -> HttpResponse:
    mine = member_of(request, pk)
    workspace = mine.workspace
    member = _member(workspace, user)
    if member is None:
        return _no_member(request, workspace)
    person = member.user
    permissions.check_may_remove(Role(mine.role), Role(member.role), workspace)
    if request.method == "GET":
        return render(request, "workspaces/remove.html", {"workspace": workspace, "person": person})
    try:
        teams.remove_member(workspace=workspace, user=person, by=request.user, now=timezone.now())
    except TeamProblem as problem:
        messages.error(request, str(problem))
    else:
        messages.success(request, f"{person} is out of {workspace}. What they booked stays with it.")
        if person == request.user:
            return redirect("workspaces:index")
    return redirect("workspaces:detail", pk=pk)


def _member(workspace: Workspace, user: int) -> Membership | None:
    return Membership.objects.select_related("user").filter(workspace=workspace, user=user).first()


def _no_member(request: Asked, workspace: Workspace) -> HttpResponse:
    """Somebody else was quicker, or it was never one; who it would be is not said."""
    messages.error(request, f"This person is not a member of {workspace} any more.")
    return redirect("workspaces:detail", pk=workspace.pk)


@login_required
@require_http_methods(["GET", "POST"])
def leave(request: Asked, pk: int) -> HttpResponse:
    workspace = member_of(request, pk).workspace
    if request.method == "GET":
        return render(request, "workspaces/leave.html", {"workspace": workspace})
    try:
        teams.leave(workspace=workspace, user=request.user)
    except TeamProblem as problem:
        messages.error(request, str(problem))
        return redirect("workspaces:detail", pk=pk)
    messages.success(request, f"You have left {workspace}.")
    return redirect("workspaces:index")


# ---- invitations ------------------------------------------------------------------------------------------


@login_required
@require_http_methods(["GET", "POST"])
def invite(request: Asked, pk: int) -> HttpResponse:
    membership = member_of(request, pk)
    workspace, mine = membership.workspace, Role(membership.role)
    permissions.check_may_invite(mine, workspace)
    form = InvitationForm(request.POST or None, role=mine)
    if request.method == "POST" and form.is_valid():
        email, given = form.cleaned_data["email"], Role(form.cleaned_data["role"])
        try:
            sent = inviting.invite(workspace=workspace, email=email, role=given, by=request.user, now=timezone.now())
        except TeamProblem as problem:
            form.add_error("email", str(problem))
        else:
            _say_sent(request, sent)
            return redirect("workspaces:detail", pk=pk)
    context = {"form": form, "workspace": workspace, "days": inviting.GOOD_FOR.days}
    return render(request, "workspaces/invite.html", context, status=422 if form.errors else 200)


@login_required
@require_POST
def resend(request: Asked, pk: int, invitation: int) -> HttpResponse:
    row = get_object_or_404(member_of(request, pk).workspace.invitations, pk=invitation)
    try:
        _say_sent(request, inviting.resend(invitation=row, by=request.user, now=timezone.now()))
    except TeamProblem as problem:
        messages.error(request, str(problem))
    return redirect("workspaces:detail", pk=pk)


def _say_sent(request: HttpRequest, sent: Sent) -> None:
    if sent.mailed:
        messages.success(request, f"An invitation was sent to {sent.invitation.email}.")
    else:
        messages.warning(request, NOT_MAILED)


@login_required
@require_POST
def revoke(request: Asked, pk: int, invitation: int) -> HttpResponse:
    row = get_object_or_404(member_of(request, pk).workspace.invitations, pk=invitation)
    try:
        inviting.revoke(invitation=row, by=request.user, now=timezone.now())
    except TeamProblem as problem:
        messages.error(request, str(problem))
    else:
        messages.success(request, f"The invitation to {row.email} is taken back; its link is good no more.")
    return redirect("workspaces:detail", pk=pk)


@require_GET
@never_cache
def join(request: HttpRequest, key: str) -> HttpResponse:
    """The mail's link: from here on the address has no secret in it any more, only the session knows of it."""
    found = inviting.find(key)
    if found is None:
        return render(request, "workspaces/no_invitation.html", status=404)
    request.session[HELD_INVITATION] = found.pk
    return redirect("workspaces:invitation", pk=found.pk)


@require_http_methods(["GET", "POST"])
@never_cache
def invitation(request: HttpRequest, pk: int) -> HttpResponse:
    """Accept it, with the account that it is for. Who came by the link reads it without an account, too."""
    user = request.user if isinstance(request.user, User) else None
    held = request.session.get(HELD_INVITATION) == pk
    if user is None and (request.method == "POST" or not held):
        return redirect_to_login(request.path)
    row = _invitation(pk, user, held)
    if user is not None and request.method == "POST":
        try:
            workspace = inviting.accept(invitation=row, user=user, now=timezone.now())
        except TeamProblem as problem:
            context = _invitation_context(row, user) | {"problem": str(problem)}
            return render(request, "workspaces/invitation.html", context, status=422)
        request.session.pop(HELD_INVITATION, None)
        teams.switch(user=user, workspace=workspace)
        messages.success(request, f"You are in {workspace}, and what you book from now on is for it.")
        return redirect("workspaces:detail", pk=workspace.pk)
    return render(request, "workspaces/invitation.html", _invitation_context(row, user))


@login_required
@require_POST
def decline(request: Asked, pk: int) -> HttpResponse:
    row = _invitation(pk, request.user, request.session.get(HELD_INVITATION) == pk)
    try:
        inviting.decline(invitation=row, user=request.user, now=timezone.now())
    except TeamProblem as problem:
        messages.error(request, str(problem))
        return redirect("workspaces:invitation", pk=pk)
    request.session.pop(HELD_INVITATION, None)
    messages.success(request, f"You have declined the invitation to {row.workspace}.")
    return redirect("workspaces:index")


def _invitation(pk: int, user: User | None, held: bool) -> Invitation:
    row = get_object_or_404(Invitation.objects.select_related("workspace", "invited_by", "accepted_by"), pk=pk)
    if not held and not (user and inviting.is_known_to(row, user)):
        raise Http404
    return row


def _invitation_context(row: Invitation, user: User | None) -> dict[str, object]:
    return {
        "invitation": row,
        "workspace": row.workspace,
        "masked": inviting.masked(row.email),
        "problem": inviting.why_not(row, user, timezone.now()),
    }


urlpatterns = [
    path("", index, name="index"),
    path("new/", new, name="new"),
    path("switch/", switch, name="switch"),
    path("join/<str:key>/", join, name="join"),
    path("invitations/<int:pk>/", invitation, name="invitation"),
    path("invitations/<int:pk>/decline/", decline, name="decline"),
    path("<int:pk>/rename/", rename, name="rename"),
    path("<int:pk>/leave/", leave, name="leave"),
    path("<int:pk>/invite/", invite, name="invite"),
    path("<int:pk>/invitations/<int:invitation>/resend/", resend, name="resend"),
    path("<int:pk>/invitations/<int:invitation>/revoke/", revoke, name="revoke"),
    path("<int:pk>/members/<int:user>/role/", role, name="role"),
    path("<int:pk>/members/<int:user>/remove/", remove, name="remove"),
]
