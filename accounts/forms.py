"""The forms of the account pages that are ours."""

from datetime import timedelta
from typing import Any

from allauth.mfa.webauthn.forms import AddWebAuthnForm
from django import forms

from accounts.dates import languages
from accounts.models import Scope, every_scope
from accounts.ssh_keys import MOST_TEXT
from accounts.validators import no_control_characters, validate_date_language, validate_time_zone

DAYS = (7, 30, 90, 180, 365)


def language_choices() -> list[tuple[str, str]]:
    return [("", "As Berth writes them: 20 Nov 2026, 14:05"), *languages()]


class DatesForm(forms.Form):
    """In which zone and language somebody reads dates."""

    time_zone = forms.CharField(
        label="Time zone",
        required=False,
        max_length=64,
        validators=[validate_time_zone],
        widget=forms.TextInput(attrs={"list": "zones", "autocomplete": "off", "spellcheck": "false"}),
        help_text="Type a city or a part of the world. Empty: what your browser says.",
    )
    date_language = forms.ChoiceField(
        label="Language of dates",
        required=False,
        choices=language_choices,
        help_text="The pages themselves are in English.",
        error_messages={"invalid_choice": "Choose one of the languages of the list."},
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        chosen = str(self.initial.get("date_language") or "")
        field = self.fields["date_language"]
        known = list(language_choices())
        if chosen and chosen not in dict(known):  # written by an admin, who may name any that Babel knows
            field.choices = [*known, (chosen, chosen)]  # type: ignore[attr-defined]

    def clean_date_language(self) -> str:
        code = str(self.cleaned_data["date_language"])
        validate_date_language(code)
        return code


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


class KeysForm(forms.Form):
    """Public keys, one a line."""

    keys = forms.CharField(
        label="Public key",
        max_length=MOST_TEXT,
        widget=forms.Textarea(
            attrs={"rows": 5, "class": "mono", "spellcheck": "false", "autocomplete": "off", "autocapitalize": "off"}
        ),
        help_text="One a line, as in a file that ends in .pub: ssh-ed25519 AAAA… you@laptop",
        error_messages={
            "required": "Paste a public key: the line in a file that ends in .pub.",
            "max_length": f"This is too long: at most {MOST_TEXT:,} characters. A public key is one line.",
        },
    )

    @classmethod
    def without_what_was_typed(cls, problem: str) -> "KeysForm":
        """An empty form with a sentence: what was sent must not be in the answer."""
        form = cls({"keys": ""})
        form.errors["keys"] = form.error_class([problem])
        return form


class DeleteForm(forms.Form):
    """The user name, typed to be sure that it is this account."""

    username = forms.CharField(
        label="Type your user name",
        max_length=150,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "off", "spellcheck": "false"}),
        error_messages={"required": "Type your user name, so that nothing is deleted by mistake."},
    )

    def __init__(self, *args: Any, wanted: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.wanted = wanted

    def clean_username(self) -> str:
        name = str(self.cleaned_data["username"])
        if name != self.wanted:
            raise forms.ValidationError(f"This is not your user name. Type {self.wanted}, as it is written here.")
        return name
