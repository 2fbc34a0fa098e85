"""The booking form: parses what was typed into a Booking, with a sentence at each field."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.db.models import Prefetch
from django.forms import BoundField
from django.utils import timezone
from django.utils.html import escape

from accounts.models import Workspace
from accounts.validators import no_control_characters
from compute import capacity
from reservations import batches, options
from reservations.actions import Booking
from reservations.forms import duration_choices
from reservations.models import Service, ServiceVersion, Size, StorageProfile, WorkspaceVolume
from reservations.option_rules import MOST_CHARACTERS, MOST_NUMBER
from reservations.sizes import CORE_STEP, CUSTOM, LEAST_RAM_MIB, RAM_STEP_MIB, CustomSize
from reservations.time_field import LocalTimeField


class SizeField(forms.ModelChoiceField):  # type: ignore[type-arg]  # no class of Django's can be subscripted at run time
    """A size of the catalogue, or the word that stands for one's own."""

    def to_python(self, value: Any) -> Any:
        return CUSTOM if value == CUSTOM else super().to_python(value)

    def validate(self, value: Any) -> None:
        if value != CUSTOM:
            super().validate(value)


class BookingForm(forms.Form):
    """Fields in the order in which a person decides. Empty `start` means now; an exact `end` wins over `duration`.

    What belongs to one service alone has its slug in its name: `version-redis`, `option-redis-TZ`.
    """

    service = forms.ModelChoiceField(
        Service.objects.none(),
        to_field_name="slug",
        widget=forms.RadioSelect,
        empty_label=None,
        error_messages={"required": "Choose a service.", "invalid_choice": "There is no such service."},
    )
    size = SizeField(
        Size.objects.none(),
        to_field_name="slug",
        widget=forms.RadioSelect,
        empty_label=None,
        error_messages={"required": "Choose a size.", "invalid_choice": "There is no such size."},
    )
    cores = forms.DecimalField(
        required=False,
        max_digits=8,
        min_value=CORE_STEP,
        step_size=CORE_STEP,
        error_messages={
            "invalid": "Type the cores as a number, such as 1.5.",
            "min_value": f"Cores come in steps of {CORE_STEP}, from {CORE_STEP} on.",
            "step_size": f"Cores come in steps of {CORE_STEP}, from {CORE_STEP} on.",
        },
    )
    ram_mib = forms.IntegerField(
        label="RAM (MiB)",
        required=False,
        min_value=LEAST_RAM_MIB,
        max_value=2**31 - 1,
        step_size=RAM_STEP_MIB,
        error_messages={
            "invalid": "Type the RAM as a whole number of MiB, such as 1024.",
            "min_value": f"RAM comes in steps of {RAM_STEP_MIB} MiB, from {LEAST_RAM_MIB} MiB on.",
            "step_size": f"RAM comes in steps of {RAM_STEP_MIB} MiB, from {LEAST_RAM_MIB} MiB on.",
        },
    )
    name = forms.CharField(
        max_length=60, required=False, validators=[no_control_characters], help_text="Yours to recognise it by."
    )
    copies = forms.IntegerField(
        required=False,
        initial=1,
        min_value=1,
        error_messages={
            "invalid": "Type the number of copies as a whole number.",
            "min_value": "At least one copy is needed.",
        },
    )
    start = LocalTimeField(label="Start", example="2026-05-04 10:00")
    duration = forms.TypedChoiceField(
        required=False, coerce=int, error_messages={"invalid_choice": "This duration is not offered."}
    )
    end = LocalTimeField(label="End", example="2026-05-04 12:00")
    storage = forms.ModelChoiceField(
        StorageProfile.objects.filter(active=True),
        widget=forms.RadioSelect,
        empty_label=None,
        error_messages={"required": "Choose where the data lives.", "invalid_choice": "There is no such profile."},
    )
    storage_gb = forms.IntegerField(label="Storage (GB)", required=False, min_value=1, max_value=10_000)
    volume = forms.ModelChoiceField(
        WorkspaceVolume.objects.none(),
        required=False,
        label="Kept volume",
        empty_label="a new one",
        error_messages={"invalid_choice": "There is no such volume in this workspace."},
    )

    def __init__(self, *args: Any, workspace: Workspace, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.workspace = workspace
        versions = Prefetch("versions", ServiceVersion.objects.filter(active=True))
        self.services = list(Service.objects.filter(active=True).prefetch_related(versions))
        fields: dict[str, Any] = self.fields
        fields["service"].queryset = Service.objects.filter(active=True)
        fields["size"].queryset = Size.objects.filter(active=True)
        fields["volume"].queryset = (
            WorkspaceVolume.objects.present().filter(workspace=workspace).select_related("volume")
        )
        fields["duration"].choices = duration_choices(workspace.max_hours)
        fields["duration"].initial = 60 if workspace.max_hours else None
        fields["storage"].initial = StorageProfile.Code.C1
        fields["copies"].widget.attrs["max"] = min(workspace.max_reservations, batches.MOST_COPIES)
        node_ram_mib, node_cores = capacity.largest()
        fields["cores"].widget.attrs["data-most"] = min(workspace.max_cores, node_cores or workspace.max_cores)
        fields["ram_mib"].widget.attrs["data-most"] = min(workspace.max_ram_mib, node_ram_mib or workspace.max_ram_mib)
        fields["end"].widget.attrs["step"] = settings.BERTH_STEP_MINUTES * 60
        zone = timezone.get_current_timezone_name()
        fields["start"].help_text = f"Empty: as soon as it is booked. Times are {zone}."
        fields[
            "end"
        ].help_text = (
            f"Instead of a duration, at a full {settings.BERTH_STEP_MINUTES} minutes; it wins over one. {zone}."
        )
        for service in self.services:
            fields |= dict(_fields_of(service))

    @property
    def how_many(self) -> int:
        """How many copies are asked for; only after is_valid()."""
        return self.cleaned_data.get("copies") or 1

    @property
    def groups(self) -> list[tuple[Service, list[BoundField]]]:
        """What can be set of each service beside its size: its version and its options."""
        found = [(one, [self[name] for name, _ in _fields_of(one)]) for one in self.services]
        return [(service, fields) for service, fields in found if fields]

    @property
    def own_size(self) -> bool:
        """Whether a size of one's own is chosen."""
        return str(self["size"].value()) == CUSTOM

    def clean(self) -> dict[str, Any]:
        data = self.cleaned_data
        if data.get("size") == CUSTOM:
            for name, sentence in (("cores", "Type how many cores."), ("ram_mib", "Type how much RAM.")):
                if data.get(name) is None and name not in self.errors:
                    self.add_error(name, sentence)
        if data.get("duration") in {None, ""} and not data.get("end") and not {"duration", "end"} & set(self.errors):
            self.add_error("duration", "Choose a duration, or type an end.")
        return data

    def booking(self) -> Booking:
        """What was asked for; only after is_valid()."""
        data = self.cleaned_data
        service: Service = data["service"]
        own = data["size"] == CUSTOM
        return Booking(
            service=service,
            size=CustomSize(data["cores"], data["ram_mib"]) if own else data["size"],
            name=data["name"],
            start=data["start"],
            length=self._length(),
            end=data["end"],
            storage=data["storage"],
            storage_gb=data["storage_gb"],
            volume=data["volume"],
            version=data.get(f"version-{service.slug}", ""),
            options=self._options(service),
        )

    def _length(self) -> timedelta:
        """How long it lasts; with an exact end at least until then, in full steps."""
        data = self.cleaned_data
        if not data["end"]:
            return timedelta(minutes=data["duration"])
        step = timedelta(minutes=settings.BERTH_STEP_MINUTES)
        lasts: timedelta = data["end"] - (data["start"] or timezone.now())
        return -(-max(lasts, timedelta(0)) // step) * step

    def _options(self, service: Service) -> dict[str, options.Value]:
        """What was typed of the service's options; what was left empty is not set."""
        rules: Mapping[str, Any] = service.options.get("properties", {})
        typed = {name: self.cleaned_data.get(f"option-{service.slug}-{name}", "") for name in rules}
        return {name: options.from_text(rules[name], text) for name, text in typed.items() if text != ""}

    def tell(self, problems: Mapping[str, str]) -> None:
        """Put the sentences of an InvalidBooking at their fields."""
        service = self.cleaned_data.get("service")
        for name, sentence in problems.items():
            field = name
            if service and name == "version":
                field = f"version-{service.slug}"
            elif service and name.startswith("options."):
                field = f"option-{service.slug}-{name.removeprefix('options.')}"
            self.add_error(field if field in self.fields else None, sentence)


def _fields_of(service: Service) -> Iterator[tuple[str, forms.Field]]:
    """The fields of one service alone, with their names."""
    versions = [(one.name, one.name) for one in service.versions.all() if not one.unavailable_reason]
    if versions:
        usual = service.image.rsplit(":", 1)[-1]
        yield (
            f"version-{service.slug}",
            forms.ChoiceField(
                label="Version",
                required=False,
                choices=[("", f"{usual} (usual)"), *versions],
                error_messages={"invalid_choice": f"{service.name} has no version of this name."},
            ),
        )
    for name, rule in service.options.get("properties", {}).items():
        yield f"option-{service.slug}-{name}", _field(name, rule)


def _field(name: str, rule: Mapping[str, Any]) -> forms.Field:
    """A field for one option; what was typed is judged by the schema, which knows more than the field."""
    about: dict[str, Any] = {
        "label": rule.get("title") or name,
        "help_text": escape(rule.get("description", "")),  # a form's hints are HTML
        "initial": options.as_environment({name: rule["default"]})[name] if "default" in rule else "",
        "required": False,
    }
    if rule["type"] == "boolean":
        return forms.ChoiceField(choices=[("", "as usual"), ("true", "yes"), ("false", "no")], **about)
    if "enum" in rule:
        values = [str(value) for value in rule["enum"]]
        return forms.ChoiceField(choices=[("", "as usual"), *((value, value) for value in values)], **about)
    if rule["type"] == "integer":
        least, most = rule.get("minimum", -MOST_NUMBER), rule.get("maximum", MOST_NUMBER)
        return forms.CharField(
            max_length=20, widget=forms.NumberInput(attrs={"min": least, "max": most, "step": 1}), **about
        )
    return forms.CharField(max_length=rule.get("maxLength", MOST_CHARACTERS), **about)
