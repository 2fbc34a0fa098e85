"""The forms about workspaces: a name, and an invitation."""

from typing import Any

from django import forms

from accounts.models import Role, Workspace
from accounts.permissions import may_give_role

MEANS = {
    Role.MEMBER: "member: books, sees all, acts on their own",
    Role.MANAGER: "manager: acts on all reservations, invites and removes members",
    Role.OWNER: "owner: all of it, roles and money too",
}


class WorkspaceForm(forms.ModelForm[Workspace]):
    """What a workspace is called."""

    class Meta:
        model = Workspace
        fields = ["name"]
        labels = {"name": "Name"}
        help_texts = {"name": "As its members and its bills call it, for example: Chair of Databases"}


class InvitationForm(forms.Form):
    """Whom to ask, as what. `role` is that of who asks, which limits what can be given."""

    email = forms.EmailField(
        label="E-mail address",
        max_length=254,
        help_text="They need an account with this address, and can sign up for one.",
    )
    role = forms.ChoiceField(
        label="As", widget=forms.RadioSelect(attrs={"class": "form-check-input"}), initial=Role.MEMBER
    )

    def __init__(self, *args: Any, role: Role | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [(given.value, MEANS[given]) for given in MEANS if may_give_role(role, given)]
        self.fields["role"].choices = choices  # type: ignore[attr-defined]  # a ChoiceField has them
