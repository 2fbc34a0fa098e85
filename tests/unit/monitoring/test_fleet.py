"""/monitor/: what is lent and used, who is not well, whether the portal itself works; as quick for many as for one."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from compute.fleet import lent_over, node_rows
from compute.models import Allocation, Node
from monitoring.models import Heartbeat, Incident
from reservations.tasks import SWEPT_AT
from tests.factories import make_gateway, make_reservation, make_storage, make_user
from tests.unit.monitoring.pages import big_node, book_and_run, browser_of, generous, read, staff, words

pytestmark = pytest.mark.django_db
PAGE = "/monitor/"


@pytest.fixture(autouse=True)
def _plain_http(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = False


def page(query: str = "") -> str:
    answer = browser_of(staff()).get(PAGE + query)
    assert answer.status_code == 200
    return words(answer)


def names(query: str) -> list[str]:
    """Of the nodes in the table, in its order."""
    answer = browser_of(staff()).get(PAGE + query)
    return [row.name for row in answer.context["page_obj"]]


# ---- rows -------------------------------------------------------------------------------------------------


def test_a_row_has_what_is_lent_and_what_is_used() -> None:
    node = big_node("one")
    make_reservation(now=timezone.now())
    read(node, timezone.now() - timedelta(seconds=30), load_1=9.0)
    read(node)

    (row,) = node_rows(timezone.now())

    assert (row.held_ram_mib, row.held_cores, row.held_count) == (512, Decimal("0.50"), 1)
    assert (row.used_ram_mib, row.used_cores, row.load_1) == (2048, 1.5, 0.5)
    assert row.disk_share == pytest.approx(0.75)
    assert row.is_well
    assert row.problems == []


def test_a_reading_that_is_old_or_failed_says_nothing_of_now() -> None:
    old, failed = big_node("old"), big_node("silent")
    read(old, timezone.now() - timedelta(minutes=2))
    read(failed, timezone.now() - timedelta(seconds=20))
    read(failed, reachable=False)

    assert [row.load_1 for row in node_rows(timezone.now())] == [None, None]


def test_what_is_wrong_with_a_node_is_said() -> None:
    node = big_node("one", guard_problem="its timer is off", tls_expires_at=timezone.now() + timedelta(days=3))
    read(node, containers_expected=3, containers=1)

    (row,) = node_rows(timezone.now())

    assert row.is_well
    assert [words for words in row.problems if "timer" in words]
    assert [words for words in row.problems if words.startswith("The certificate of its engine expires on")]
    assert "1 of 3 containers run." in row.problems


@pytest.mark.parametrize(("silent_s", "health"), [(None, "unknown"), (29, "ok"), (31, "unknown"), (72_000, "unknown")])
def test_a_node_that_nobody_probes_is_not_said_to_be_well(silent_s: int | None, health: str) -> None:
    now = timezone.now()
    big_node("one", last_seen_at=None if silent_s is None else now - timedelta(seconds=silent_s))

    (row,) = node_rows(now)

    assert row.health == health
    assert row.is_well == (health == "ok")
    assert [text for text in row.problems if text.startswith("Not probed")] == row.problems
    assert bool(row.problems) == (health == "unknown")


def test_why_it_is_not_in_service_stays_the_last_probes_word() -> None:
    big_node("one", health="lost", health_reason="no route to host", last_seen_at=None)

    (row,) = node_rows(timezone.now())

    assert (row.health, row.problems) == ("lost", ["no route to host"])


def test_nodes_are_in_the_order_in_which_people_count() -> None:
    for name in ("node10", "node2", "a1-rack10", "a1-rack9", "node1"):
        big_node(name)

    assert [row.name for row in node_rows(timezone.now())] == ["a1-rack9", "a1-rack10", "node1", "node2", "node10"]


def test_what_was_lent_in_the_past_is_told_by_its_allocations() -> None:
    node = big_node("one")
    now = timezone.now().replace(microsecond=0)
    make_reservation(now=now)
    second = make_reservation(now=now, start=now + timedelta(minutes=30))
    cancelled = make_reservation(now=now, start=now + timedelta(minutes=30))
    Allocation.objects.filter(container__reservation=cancelled).update(released_at=now)
    at = [int(now.timestamp()) + 60 * minute for minute in (-5, 0, 29, 30, 59, 60, 90)]

    lent = lent_over(node, at)

    assert second.ram_mib == 512
    assert lent.ram_mib == [0, 512, 512, 1024, 1024, 512, 0]
    assert lent.cores == [0, 0.5, 0.5, 1.0, 1.0, 0.5, 0]


# ---- the page ---------------------------------------------------------------------------------------------


def test_a_few_nodes_are_cards() -> None:
    read(big_node("one"))
    big_node("two", health="unknown", health_reason="no route to host")

    text = page()

    assert text.count("<article") == 3  # and the gateway
    assert "RAM: 0 MiB of 64 GiB lent, 2 GiB of 8 GiB used" in text
    assert "no route to host" in text
    assert '1 <span class="gauge-of">of 2</span>' in text
    assert "1 in trouble" in text
    assert 'id="filters"' not in text


def test_a_fleet_without_nodes_says_what_to_do() -> None:
    text = page()

    assert "No node yet" in text
    assert "enrol_node" in text


def test_many_nodes_are_a_table_in_pages() -> None:
    for number in range(101):
        big_node(f"n{number:03}")

    assert len(names("")) == 100
    assert names("?page=2") == ["n100"]
    assert "101–101 of 101" in page("?page=2")


@pytest.fixture
def many() -> list[Node]:
    other = make_gateway(name="east")
    nodes = [big_node(f"n{number:02}", gateway=other if number > 11 else make_gateway()) for number in range(14)]
    Node.objects.filter(name="n03").update(state="cordoned")
    Node.objects.filter(name="n04").update(health="lost", health_reason="gone")
    Node.objects.filter(name="n05").update(guard_problem="off")
    read(nodes[6], load_1=40.0, cores_used=3.9)
    read(nodes[7], load_1=20.0, memory_free_mib=100)
    return nodes


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?state=cordoned", ["n03"]),
        ("?health=lost", ["n04"]),
        ("?health=trouble", ["n04", "n05"]),
        ("?zone=east", ["n12", "n13"]),
        ("?q=N1", ["n10", "n11", "n12", "n13"]),
        ("?q=1&zone=east&health=ok", ["n12", "n13"]),
        ("?q=nothing", []),
    ],
)
def test_the_table_is_filtered(query: str, found: list[str], many: list[Node]) -> None:
    assert names(query) == found


@pytest.mark.parametrize(("query", "first"), [("?sort=load", "n06"), ("?sort=used", "n07"), ("?sort=name", "n00")])
def test_the_table_is_sorted(query: str, first: str, many: list[Node]) -> None:
    assert names(query)[0] == first


def test_trouble_is_on_top(many: list[Node]) -> None:
    assert names("")[:3] == ["n04", "n05", "n00"]


@pytest.mark.parametrize("query", ["?state=x", "?sort=x", "?health=x", "?page=x", "?page=99999", "?q=%00"])
def test_what_makes_no_sense_is_not_asked_for(query: str, many: list[Node]) -> None:
    assert len(names(query)) in {14, 0}


def test_the_form_keeps_what_was_asked_for(many: list[Node]) -> None:
    text = page("?q=n1&health=ok&sort=load")

    assert 'value="n1"' in text
    assert "<option selected>ok</option>" in text
    assert '<input type="hidden" name="sort" value="load">' in text
    assert 'aria-sort="descending"' in text


def test_only_the_part_that_changes_is_sent_to_who_asks_for_it() -> None:
    answer = browser_of(staff()).get(PAGE, headers={"HX-Request": "true", "HX-Target": "monitor"})

    assert words(answer).startswith('<div id="monitor"')


# ---- the portal itself ------------------------------------------------------------------------------------


def test_who_works_on_the_queue_is_shown() -> None:
    now = timezone.now()
    cache.set(SWEPT_AT, now)
    for kind in ("worker", "beat"):
        Heartbeat.objects.create(name=f"{kind}@here", kind=kind, started_at=now, at=now)

    text = page()

    assert '1 <span class="gauge-of">worker</span>' in text
    assert "and the beat are alive" in text
    assert "looked for what is due" in text


def test_a_standstill_is_shown() -> None:
    text = page()

    assert '0 <span class="gauge-of">workers</span>' in text
    assert "no beat is alive" in text
    assert "never seen: is the beat running?" in text


def test_what_waits_is_counted() -> None:
    big_node("one")
    make_reservation(now=timezone.now() - timedelta(minutes=10))

    text = page()

    assert '1 <span class="gauge-of">due</span>' in text
    assert "the oldest for 9 min" in text


def test_open_incidents_lead_the_page() -> None:
    now = timezone.now()
    Incident.objects.create(
        kind="node_down", subject="node:1", name="one", severity="critical", sentence="no route",
        first_seen_at=now, last_seen_at=now, opened_at=now,
    )  # fmt: skip

    assert "1 open incident" in page()


def test_gateways_and_storage_say_what_they_hold() -> None:
    node = big_node("one")
    make_gateway()
    make_storage(capacity_gb=500, problem="no answer")
    container = book_and_run(make_user())
    node.forwards.update(wanted=True, applied=True)
    type(node.gateway).objects.update(drift=2, drift_total=5, checked_at=timezone.now())

    text = page()

    assert container.name
    assert "<dt>Rules wanted</dt> <dd> 1 </dd>" in text
    assert "2 differed" in text
    assert "no answer" in text
    assert "0 of 500 GB" in text


def test_where_nobody_looks_nothing_is_said_to_be_well() -> None:
    long_ago = timezone.now() - timedelta(hours=20)
    big_node("one", last_seen_at=long_ago)
    make_gateway().__class__.objects.update(checked_at=long_ago)
    make_storage(last_seen_at=long_ago)

    text = page()

    assert "all answer" not in text
    assert '0 <span class="gauge-of">of 1</span>' in text
    assert text.count("Not probed since") == 1
    assert "tone-green" not in text
    type(make_gateway()).objects.update(checked_at=timezone.now())
    assert "tone-green" in page()


# ---- who, and how many queries -----------------------------------------------------------------------------


def test_it_is_for_staff() -> None:
    assert browser_of(None).get(PAGE).status_code == 302
    assert browser_of(make_user()).get(PAGE).status_code == 404
    assert browser_of(staff()).get(PAGE).status_code == 200


def test_it_asks_as_often_for_many_nodes_as_for_one() -> None:
    client, counts = browser_of(staff()), []
    ada = generous(make_user())
    for more in (1, 12, 37):
        for _ in range(more):
            read(big_node())
            book_and_run(ada)
        client.get(PAGE)
        with CaptureQueriesContext(connection) as asked:
            assert client.get(PAGE).status_code == 200
        counts.append(len(asked))

    assert counts[0] == counts[1] == counts[2] <= 18
