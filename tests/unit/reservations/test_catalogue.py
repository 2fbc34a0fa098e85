"""What is shipped, and how an installation of an earlier version gets it."""

from io import StringIO

import pytest
from django.core.management import call_command

from reservations.catalogue import ROOM_FIELDS, SERVICES, SHIPPED_BEFORE
from reservations.models import Service

pytestmark = pytest.mark.django_db


def seed() -> str:
    out = StringIO()
    call_command("seed_catalogue", stdout=out)
    return out.getvalue()


def make_earlier(slug: str, values: tuple[object, ...]) -> Service:
    """The service as an earlier version has shipped it."""
    Service.objects.filter(slug=slug).update(**dict(zip(ROOM_FIELDS, values, strict=True)))
    return Service.objects.get(slug=slug)


@pytest.mark.parametrize("values", SHIPPED_BEFORE)
def test_a_service_of_an_earlier_version_is_held_in_tighter(values: tuple[object, ...]) -> None:
    seed()
    nginx = make_earlier("nginx", values)
    assert not nginx.read_only

    said = seed()

    nginx.refresh_from_db()
    assert (nginx.read_only, nginx.internet) == (True, False)
    assert "/run" in nginx.scratch
    assert "FOWNER" not in nginx.capabilities
    assert "1 services have their containers held in tighter" in said
    assert "tighter" not in seed()


def test_what_an_admin_has_changed_stays() -> None:
    seed()
    for slug, change in (("nginx", {"internet": True}), ("redis", {"image": "library/redis:8"})):
        make_earlier(slug, SHIPPED_BEFORE[0])
        Service.objects.filter(slug=slug).update(**change)
    Service.objects.filter(slug="nginx").update(writes_mib=5000)

    seed()

    assert not Service.objects.get(slug="nginx").read_only
    assert not Service.objects.get(slug="redis").read_only


def test_only_what_lives_of_the_internet_may_go_there() -> None:
    assert {s["slug"] for s in SERVICES if s["internet"]} == {"jenkins", "shell"}
