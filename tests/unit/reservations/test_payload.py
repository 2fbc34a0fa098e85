"""What customers and admins type never reaches the host configuration of a container."""

import json
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from compute import docker_config
from compute.engine import EngineRefused
from compute.spec import CAPABILITIES
from reservations import starting
from reservations.catalogue import SERVICES
from reservations.models import Reservation, Service, Size
from tests.factories import make_node, make_profiles, make_reservation, make_service, make_token, make_user
from tests.unit.compute.payload import forbidden

MARK = "Zq9"
pytestmark = pytest.mark.django_db

typed = st.one_of(
    st.text(max_size=20).map(lambda text: f"{MARK}{text}"),
    st.sampled_from(
        [f"{MARK}/../..", f"{MARK},exec", f"{MARK}:/etc:rw", f"/{MARK}", f"{{{MARK}}}", f"{MARK}\n--privileged"]
    ),
)
anything = st.one_of(
    typed,
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.floats(),
    st.lists(typed, max_size=2),
    st.dictionaries(typed, typed, max_size=2),
)


def payload_of(reservation: Reservation) -> dict[str, Any]:
    container = starting.container_of(reservation)
    return docker_config.container(starting._spec(reservation, container))


@examples(max_examples=60)
@given(
    name=typed,
    key=typed,
    fields=st.dictionaries(st.sampled_from(["size", "hours", "start", "storage", "storage_gb", "volume"]), anything),
    more=st.dictionaries(st.sampled_from(["privileged", "Mounts", "HostConfig", "image", "command"]), anything),
)
def test_what_a_customer_types_is_in_no_payload(
    name: str, key: str, fields: dict[str, Any], more: dict[str, Any], settings: Any, fuzzed: tuple[str, Reservation]
) -> None:
    settings.SECURE_SSL_REDIRECT = False
    token, _ = fuzzed
    before = set(Reservation.objects.values_list("pk", flat=True))
    for body in ({"service": "nginx", "hours": 1, "name": name}, {"service": "nginx", "hours": 1, **fields, **more}):
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key.encode("ascii", "replace").decode()}
        text = json.dumps(body)
        client = Client(raise_request_exception=False)
        client.generic("POST", "/api/v1/reservations", text, "application/json", headers=headers)

    for reservation in Reservation.objects.exclude(pk__in=before).select_related("service", "workspace"):
        payload = payload_of(reservation)
        assert forbidden(payload) == []
        assert MARK not in json.dumps(payload)


@pytest.fixture
def fuzzed(db: None) -> tuple[str, Reservation]:
    """A customer's token, and a reservation; the place is large enough for all that are booked."""
    make_node("one", ram_mib=2**30, cores=9999)
    make_profiles()
    make_service()
    user = make_user(f"{MARK.lower()}user", first_name=MARK)
    workspace = user.memberships.get().workspace
    workspace.max_reservations = workspace.max_ram_mib = workspace.max_cores = workspace.max_storage_gb = 9999
    workspace.name = f"{MARK} workspace"
    workspace.save()
    reservation = make_reservation(user)
    reservation.name = f"{MARK} name"
    return make_token(user), reservation


def test_the_names_of_people_and_workspaces_are_in_no_payload(fuzzed: tuple[str, Reservation]) -> None:
    assert MARK not in json.dumps(payload_of(fuzzed[1]))


texts = st.one_of(st.text(max_size=12), st.sampled_from(["/", "/data", "/proc", "/run:exec", "NET_RAW", "{password}"]))
values = st.one_of(
    texts, st.none(), st.integers(-5, 10**6), st.lists(texts, max_size=2), st.dictionaries(texts, texts, max_size=2)
)
services = st.fixed_dictionaries(
    {},
    optional={
        "slug": st.one_of(texts, st.from_regex(r"[-a-zA-Z0-9_]{1,50}", fullmatch=True)),
        "image": texts,
        "environment": st.one_of(st.dictionaries(texts, texts, max_size=2), values),
        "command": st.one_of(st.lists(texts, max_size=2), values),
        "mount_path": texts,
        "capabilities": st.one_of(st.lists(st.sampled_from([*sorted(CAPABILITIES), "NET_RAW", "ALL"])), values),
        "scratch": st.one_of(st.lists(texts, max_size=2), values),
        "pids": st.integers(-5, 10**6),
        "writes_mib": st.integers(-5, 10**7),
        "read_only": st.booleans(),
        "internet": st.booleans(),
    },
)


def with_service(reservation: Reservation, fields: dict[str, Any]) -> Reservation:
    """The reservation, with these fields of its service; nothing is saved."""
    found = Reservation.objects.select_related("service", "workspace").get(pk=reservation.pk)
    for name, value in fields.items():
        setattr(found.service, name, value)
    return found


@examples(max_examples=150)
@given(fields=services)
def test_what_an_admin_may_save_makes_a_container_with_nothing_forbidden(
    fields: dict[str, Any], fuzzed: tuple[str, Reservation]
) -> None:
    reservation = with_service(fuzzed[1], fields)
    try:
        reservation.service.full_clean(validate_unique=False)
    except ValidationError:
        return
    assert forbidden(payload_of(reservation)) == []


@examples(max_examples=150)
@given(fields=services)
def test_what_reached_the_database_some_other_way_is_refused_or_has_nothing_forbidden(
    fields: dict[str, Any], fuzzed: tuple[str, Reservation]
) -> None:
    reservation = with_service(fuzzed[1], fields)
    try:
        payload = payload_of(reservation)
    except (EngineRefused, TypeError, ValueError, AttributeError, IndexError):  # nothing is made: that is the point
        return
    assert forbidden(payload) == []


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: str(service["slug"]))
def test_what_is_shipped_may_be_saved(service: dict[str, Any]) -> None:
    size = Size.objects.create(slug=service["default_size"], name="A size", cores=1, ram_mib=1024)

    Service(**service | {"default_size": size}).full_clean()


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("capabilities", ["NET_RAW"], "No container may have NET_RAW"),
        ("capabilities", "CHOWN", "must be a list"),
        ("scratch", ["/proc/x"], "Nothing can be mounted at /proc/x."),
        ("scratch", ["/usr/share/nginx/html"], "The volume's folder cannot be in memory, too."),
        ("mount_path", "relative", "is not a folder"),
        ("pids", 0, "from 1 to 4096"),
        ("writes_mib", 0, "from 16 to"),
        ("environment", {"A": "{nothing}"}, "there is no credential 'nothing'"),
        ("environment", {"A": "{password.__class__}"}, "there is no credential"),
        ("environment", {"A": "{"}, "Write {{ and }} for braces."),
        ("environment", {"A=B": "c"}, "is not the name of a variable"),
        ("command", ["a\0b"], "must be a list of texts"),
        ("credentials", {"password": "random:x"}, "so many random characters"),
        ("image", "--privileged", "repository:tag"),
        ("ports", [], "At least one port"),
        ("ports", [{"name": "web", "kind": "udp", "port": 80}], "kind is one of"),
        ("ports", [{"name": "web", "kind": "tcp", "port": 0}], "from 1 to 65535"),
        ("ports", [{"name": "a", "kind": "tcp", "port": 1}, {"name": "b", "kind": "tcp", "port": 1}], "of its own"),
    ],
)
def test_what_a_service_cannot_have_is_said_at_its_field(field: str, value: Any, sentence: str) -> None:
    service = make_service(mount_path="/usr/share/nginx/html")
    service.full_clean()
    setattr(service, field, value)

    with pytest.raises(ValidationError) as problem:
        service.full_clean()

    assert sentence in " ".join(problem.value.message_dict[field])
