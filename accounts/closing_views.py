"""The page on which somebody deletes their account: what happens, and then the deed."""

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts import closing
from accounts.forms import DeleteForm
from accounts.views import Asked


@login_required
@reauthentication_required  # type: ignore[untyped-decorator]  # allauth has no types
@never_cache
@require_http_methods(["GET", "POST"])
def delete(request: Asked) -> HttpResponse:
    form = DeleteForm(request.POST or None, wanted=request.user.username)
    if request.method == "POST" and form.is_valid():
        try:
            closing.close_account(user=request.user, by=request.user, now=timezone.now())
        except closing.CannotClose as problem:
            form.add_error(None, str(problem))
        else:
            logout(request)
            messages.success(request, "Your account is deleted. A mail says what stays due, if anything does.")
            return redirect("home")
    context = {"form": form, "plan": closing.plan(user=request.user, now=timezone.now())}
    return render(request, "accounts/delete.html", context, status=422 if form.errors else 200)
