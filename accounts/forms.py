"""The forms of the account pages that are ours."""

from datetime import timedelta

from allauth.mfa.webauthn.forms import AddWebAuthnForm
from django import forms

from accounts.models import Scope, every_scope
from accounts.validators import no_control_characters

DAYS = (7, 30, 90, 180, 365)


class TokenForm(forms.Form):
    """What a new API token may do, and for how long."""

    name = forms.CharField(
        label="What it is for", max_length=80, validators=[no_control_characters], help_text="For example: laptop"
    )
    scope = forms.ChoiceField(
        label="It may",
        widget=forms.RadioSelect(attrs={"class": "form-check-input"}),
        initial="all",
        choices=[("all", "read and write: book, stop and delete"), ("read", "only read, credentials included")],
    )
    days = forms.TypedChoiceField(
        label="Good for", coerce=int, initial=90, choices=[(days, f"{days} days") for days in DAYS]
    )

    @property
    def scopes(self) -> list[str]:
        return [Scope.READ] if self.cleaned_data["scope"] == "read" else every_scope()

    @property
    def lifetime(self) -> timedelta:
        return timedelta(days=self.cleaned_data["days"])


class AddKeyForm(AddWebAuthnForm):  # type: ignore[misc]  # allauth has no types
    """As allauth's, in our words; a passkey unless the tick is taken away."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        name, passwordless = self.fields["name"], self.fields["passwordless"]
        name.label, name.max_length = "Name", 80
        name.widget.attrs["maxlength"] = 80
        name.validators.append(no_control_characters)
        passwordless.initial = True
        passwordless.label = "Log in with it alone, without user name and password"
        passwordless.help_text = (
            "Needs a fingerprint, a face or a PIN on the device."
            " Without the tick it is a second step after the password."
        )
