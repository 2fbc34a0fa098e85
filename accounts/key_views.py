"""Somebody's SSH keys."""

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from accounts import ssh_keys
from accounts.forms import KeysForm
from accounts.models import SshKey
from accounts.views import Asked


@login_required
@require_GET
def index(request: Asked) -> HttpResponse:
    context = {"keys": SshKey.objects.filter(user=request.user), "most": ssh_keys.MOST_KEYS}
    return render(request, "accounts/keys.html", context)


@login_required
@reauthentication_required  # type: ignore[untyped-decorator]  # allauth has no types
@require_http_methods(["GET", "POST"])
def new(request: Asked) -> HttpResponse:
    form = KeysForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            added = ssh_keys.add(user=request.user, text=form.cleaned_data["keys"], by=request.user)
        except ssh_keys.PrivateKey as problem:
            form = KeysForm.without_what_was_typed(str(problem))
        except ssh_keys.BadKeys as problem:
            form.add_error("keys", str(problem))
        else:
            names = ", ".join(key.name for key in added)
            messages.success(request, f"Added: {names}. Containers that start from now on know {_them(added)}.")
            return redirect("account:keys")
    return render(request, "accounts/key_new.html", {"form": form})


def _them(added: list[SshKey]) -> str:
    return "it" if len(added) == 1 else "them"


@login_required
@require_http_methods(["GET", "POST"])
def remove(request: Asked, pk: int) -> HttpResponse:
    key = get_object_or_404(SshKey, pk=pk, user=request.user)
    if request.method == "POST":
        ssh_keys.remove(key=key, by=request.user)
        messages.success(request, f"The key {key.name} is removed.")
        return redirect("account:keys")
    return render(request, "accounts/key_remove.html", {"key": key})
