"""What customers may set of a service: an admin's schema, the values, and what a container gets of them."""

import time
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from reservations import actions, option_rules, options, starting
from reservations.actions import InvalidBooking
from reservations.catalogue import SERVICES
from reservations.models import Reservation, Service, ServiceVersion
from tests.factories import (
    DIGEST,
    NOW,
    make_booking,
    make_node,
    make_reservation,
    make_service,
    make_user,
    workspace_of,
)

LEVEL = {"type": "string", "enum": ["low", "high"], "default": "low"}
COUNT = {"type": "integer", "minimum": 1, "maximum": 8}
NAME = {"type": "string", "minLength": 2, "maxLength": 20, "pattern": "^[a-z]+$"}
FLAG = {"type": "boolean"}
SCHEMA = {"type": "object", "properties": {"LEVEL": LEVEL, "COUNT": COUNT, "NAME": NAME, "FLAG": FLAG}}


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


# ---- the schema ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service["slug"])
def test_what_is_shipped_may_be_offered(service: dict[str, Any]) -> None:
    assert list(option_rules.problems(service.get("options", {}), service.get("environment", {}))) == []


@pytest.mark.parametrize("good", [{}, SCHEMA, SCHEMA | {"additionalProperties": False}])
def test_a_schema_that_can_be_offered(good: dict[str, Any]) -> None:
    assert list(option_rules.problems(good, {})) == []


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ([], 'type "object"'),
        ({"type": "array"}, 'type "object"'),
        ({"type": "object"}, "properties must be"),
        ({"type": "object", "properties": {}, "$ref": "http://example.org"}, "$ref cannot stand"),
        ({"type": "object", "properties": {}, "additionalProperties": True}, "only be false"),
        (schema(**{"1X": FLAG}), "not the name of an environment variable"),
        (schema(**{"A-B": FLAG}), "not the name of an environment variable"),
        (schema(**{"A\n": FLAG}), "not the name of an environment variable"),
        (schema(PASSWORD=FLAG), "set in the service's environment"),
        (schema(X="text"), "its type is one of"),
        (schema(X={"type": "array"}), "its type is one of"),
        (schema(X={"type": "boolean", "$ref": "#"}), "cannot have $ref"),
        (schema(X={"type": "string", "minimum": 1}), "cannot have minimum"),
        (schema(X={"type": "string", "title": 3}), "title must be"),
        (schema(X={"type": "string", "maxLength": 10**9}), "maxLength must be"),
        (schema(X={"type": "string", "minLength": 9, "maxLength": 3}), "is above"),
        (schema(X={"type": "string", "enum": []}), "enum must be"),
        (schema(X={"type": "string", "enum": [3]}), "each value of enum"),
        (schema(X={"type": "integer", "default": "3"}), "default must be"),
        (schema(X={"type": "integer", "default": True}), "default must be"),
        (schema(X={"type": "string", "default": "a\0b"}), "default must be"),
        (schema(X={"type": "string", "pattern": "^a$"}), "maxLength must say"),
        (schema(X={"type": "string", "maxLength": 9, "pattern": "a+"}), "begin with ^"),
        (schema(X={"type": "string", "maxLength": 9, "pattern": "^(a+)+$"}), "no groups"),
        (schema(X={"type": "string", "maxLength": 9, "pattern": "^a|b$"}), "no groups"),
        (schema(X={"type": "string", "maxLength": 9, "pattern": "^(?=a)$"}), "no groups"),
        (schema(X={"type": "string", "maxLength": 9, "pattern": "^a++$"}), "no groups"),
        (schema(X={"type": "string", "maxLength": 9, "pattern": "^a*a*a*a*$"}), "come more or less often"),
        (schema(X={"type": "string", "maxLength": 9, "pattern": "^[z-a]$"}), "cannot be read"),
        (schema(**{f"X{n}": FLAG for n in range(31)}), "At most 30"),
    ],
)
def test_a_schema_that_cannot_be_offered_is_refused_with_a_sentence(bad: Any, says: str) -> None:
    assert says in " ".join(option_rules.problems(bad, {"PASSWORD": "{password}"}))


@pytest.mark.parametrize("pattern", ["^a*a*a*$", "^[a-z]*[a-z]*[a-z]*!$", "^.*.*.*x$"])
def test_no_pattern_that_may_be_offered_keeps_a_process_busy(pattern: str) -> None:
    rule = {"type": "string", "maxLength": option_rules.MOST_MATCHED, "pattern": pattern}
    assert list(option_rules.problems(schema(X=rule), {})) == []
    begun = time.process_time()

    options.problems(schema(X=rule), {"X": "a" * 99 + "!"})
    options.problems(schema(X=rule), {"X": "a" * 10_000_000})  # too long is said without looking at it

    assert time.process_time() - begun < 1


@pytest.mark.django_db
def test_the_admin_is_told_at_the_field() -> None:
    service = make_service(options=schema(PASSWORD=FLAG))

    with pytest.raises(ValidationError) as refused:
        service.full_clean()

    assert "set in the service's environment" in str(refused.value.message_dict["options"])


# ---- values -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"LEVEL": "middle"}, "one of low, high"),
        ({"COUNT": 0}, "At least 1"),
        ({"COUNT": 9}, "At most 8"),
        ({"COUNT": 10**30}, "too large"),
        ({"COUNT": "many"}, "whole number"),
        ({"COUNT": True}, "whole number"),
        ({"FLAG": "yes"}, "true or false"),
        ({"NAME": "a"}, "At least 2"),
        ({"NAME": "a" * 21}, "At most 20"),
        ({"NAME": "ABC"}, "must look like"),
        ({"NAME": "ab\0"}, "Control characters"),
        ({"NAME": "ab\n"}, "Control characters"),
        ({"NAME": "🚢" * 500}, "At most 20"),
        ({"NAME": None}, "a text"),
        ({"PATH": "/"}, "no such option"),
        ({"A\0": "/"}, "no such option"),
        ({"X" * 5000: "/"}, "no such option"),
    ],
)
def test_a_value_outside_the_schema_is_refused_at_its_name(values: dict[str, Any], says: str) -> None:
    found = options.problems(SCHEMA, values)

    assert [name.startswith("options.") for name in found] == [True]
    assert says in next(iter(found.values()))


def test_defaults_are_there_and_values_are_text_for_the_container() -> None:
    values = options.with_defaults(SCHEMA, {"FLAG": True, "COUNT": 3})

    assert values == {"LEVEL": "low", "FLAG": True, "COUNT": 3}
    assert options.as_environment(values) == {"LEVEL": "low", "FLAG": "true", "COUNT": "3"}


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ("-3", -3), ("x", "x"), ("", ""), ("²", "²"), ("9" * 30, "9" * 30)]
)
def test_a_number_is_read_from_a_form_where_it_is_one(text: str, value: object) -> None:
    assert options.from_text(COUNT, text) == value


@pytest.mark.django_db
def test_what_a_customer_typed_stays_text_in_the_container() -> None:
    make_node()
    service = make_service(options=schema(GREETING={"type": "string"}, PASSWORD2={"type": "string"}))
    values = {"GREETING": "{password} {0} $HOME %s", "PASSWORD2": "{"}
    reservation = make_reservation(service=service, options=values)

    spec = starting._spec(reservation, starting.container_of(reservation))

    assert spec.environment == {**values, "PASSWORD": reservation.credentials["password"]}


@pytest.mark.django_db
def test_what_the_service_sets_wins_over_what_was_chosen_before() -> None:
    make_node()
    service = make_service(options=schema(EXTRA={"type": "string"}))
    reservation = make_reservation(service=service, options={"EXTRA": "mine"})
    Service.objects.filter(pk=service.pk).update(environment={"EXTRA": "the admin's"})

    reservation = Reservation.objects.get(pk=reservation.pk)

    assert starting._spec(reservation, starting.container_of(reservation)).environment == {"EXTRA": "the admin's"}


@pytest.mark.django_db
def test_options_outside_their_schema_book_nothing() -> None:
    make_node()
    booking = make_booking(service=make_service(options=SCHEMA), options={"COUNT": 99, "NOPE": "x"})
    user = make_user()

    with pytest.raises(InvalidBooking) as refused:
        actions.book(booking=booking, workspace=workspace_of(user), by=user, now=NOW)

    assert set(refused.value.problems) == {"options.COUNT", "options.NOPE"}
    assert not Reservation.objects.exists()


# ---- versions -----------------------------------------------------------------------------------------------------
def make_version(service: Service, name: str = "2", **values: Any) -> ServiceVersion:
    defaults = {"image": "library/nginx:2", "digest": DIGEST.replace("a", "c")}
    return ServiceVersion.objects.create(service=service, name=name, **{**defaults, **values})


@pytest.mark.django_db
def test_a_version_is_booked_by_its_digest_of_that_time() -> None:
    make_node()
    version = make_version(make_service())

    reservation = make_reservation(version="2")
    ServiceVersion.objects.update(digest=DIGEST)

    assert reservation.version == "2"
    assert reservation.image == version.reference
    assert make_reservation(make_user("other")).image == make_service().reference


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["3", "2\0", "2" * 500, "🚢" * 500, " 2"])
def test_an_unknown_version_is_refused_at_its_field(name: str) -> None:
    make_node()
    make_version(make_service())
    make_version(make_service("redis"), "3")

    with pytest.raises(InvalidBooking) as refused:
        make_reservation(version=name)

    assert refused.value.problems == {"version": "nginx has no version of this name."}


@pytest.mark.django_db
@pytest.mark.parametrize(("values", "says"), [({"active": False}, "not offered"), ({"digest": ""}, "private registry")])
def test_a_version_that_is_not_available_says_why(values: dict[str, Any], says: str) -> None:
    make_node()
    make_version(make_service(), **values)

    with pytest.raises(InvalidBooking, match=says):
        make_reservation(version="2")
