"""Each service has a page that says how it is used."""

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from reservations.guides import GUIDES
from reservations.models import Service, ServiceVersion
from reservations.views.help import Paragraph, paragraphs
from tests.factories import DIGEST, make_profiles, make_service

pytestmark = pytest.mark.django_db


def text_of(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200
    return str(answer.content.decode())


def test_everybody_reads_how_a_service_is_used(client: Client) -> None:
    make_profiles()
    make_service(
        "redis",
        connect=["redis-cli -h {host} -p {port_redis} -a {password}"],
        mount_path="/data",
        guide="Send <AUTH> first.\n\n    redis-cli PING",
        options={"type": "object", "properties": {"TZ": {"type": "string", "title": "Time zone"}}},
    )
    text = text_of(client, "/help/redis/")

    assert "redis-cli -h HOST -p PORT_REDIS -a PASSWORD" in text
    assert "Send &lt;AUTH&gt; first." in text
    assert "<code>redis-cli PING</code>" in text
    assert "<code>/data</code>" in text
    assert "Time zone" in text
    assert "/help/redis/" in text_of(client, "/help/")


def test_what_cannot_be_booked_is_explained_all_the_same(client: Client) -> None:
    make_service("jenkins", digest="")
    text = text_of(client, "/help/jenkins/")

    assert "an operator can mirror it" in text
    assert "Book jenkins" not in text


@pytest.mark.parametrize("slug", ["nothing", "no such", "%00", "..", "😀" * 50])
def test_a_service_that_is_not_there_has_no_page(client: Client, slug: str) -> None:
    assert client.get(f"/help/{slug}/").status_code == 404


def test_a_service_that_is_not_offered_has_no_page(client: Client) -> None:
    make_service("old", active=False)
    assert client.get("/help/old/").status_code == 404
    assert "/help/old/" not in text_of(client, "/help/")


def test_only_versions_that_can_be_booked_are_named(client: Client) -> None:
    row = make_service("redis")
    for name, digest, active in (("7.2", DIGEST, True), ("6.0", "", True), ("5.0", DIGEST, False)):
        ServiceVersion.objects.create(service=row, name=name, image=f"redis:{name}", digest=digest, active=active)
    text = text_of(client, "/help/redis/")

    assert "7.2" in text
    assert "6.0" not in text
    assert "5.0" not in text


def test_an_admin_may_write_anything_into_a_guide() -> None:
    assert paragraphs("") == paragraphs(" \n\n \n") == []
    assert paragraphs("one\r\nline\r\n\r\n    typed\r\n    {braces}\r\n\r\n    half\nhalf") == [
        Paragraph("one line", typed=False),
        Paragraph("typed\n{braces}", typed=True),
        Paragraph("half half", typed=False),
    ]


def test_all_that_is_shipped_has_a_guide_and_an_admins_own_stays(client: Client) -> None:
    call_command("seed_catalogue", verbosity=0)
    assert set(Service.objects.exclude(guide="").values_list("slug", flat=True)) == set(GUIDES)
    for slug in GUIDES:
        text_of(client, f"/help/{slug}/")
    Service.objects.filter(slug="nginx").update(guide="Ask Ada.")
    Service.objects.filter(slug="redis").update(guide="")

    call_command("seed_catalogue", verbosity=0)

    assert Service.objects.get(slug="nginx").guide == "Ask Ada."
    assert Service.objects.get(slug="redis").guide == GUIDES["redis"]


@pytest.mark.parametrize("number", [1, 50])
def test_the_list_asks_the_same_for_one_and_for_fifty(client: Client, number: int) -> None:
    for n in range(number):
        make_service(f"service{n}")
    with CaptureQueriesContext(connection) as asked:
        text_of(client, "/help/")
    assert len(asked) == 1
