"""/monitor/nodes/<name>/: how a node is and was, and what may be done to it; a drain is shown before it is done."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import AuditEntry
from compute.models import Node
from monitoring.models import Incident
from tests.factories import HOUR, make_reservation, make_user
from tests.unit.monitoring.pages import (
    big_node,
    book_and_run,
    browser_of,
    generous,
    read,
    read_container,
    run,
    staff,
    words,
)

pytestmark = pytest.mark.django_db
PAGE = "/monitor/nodes/one/"
SERIES = f"{PAGE}series"
DEEDS = ["cordon/", "uncordon/", "drain/"]


@pytest.fixture(autouse=True)
def _plain_http(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = False


@pytest.fixture
def one() -> Node:
    return big_node("one")


def state() -> str:
    return Node.objects.get(name="one").state


# ---- the page ---------------------------------------------------------------------------------------------


def test_it_shows_how_the_node_is_what_runs_and_who_comes(one: Node) -> None:
    ada, now = make_user("ada"), timezone.now()
    container = book_and_run(ada, health="unhealthy", oom_kills=3)
    coming = make_reservation(ada, now=now, start=now + timedelta(hours=5), name="tomorrow")
    too_late = make_reservation(ada, now=now, start=now + timedelta(days=7, hours=1), name="much-later")
    read(one)
    read_container(container)

    text = words(browser_of(staff()).get(PAGE))

    assert "2 GiB of 8 GiB used" in text
    assert container.name in text
    assert "unhealthy" in text
    assert f"tomorrow #{coming.pk}" in text
    assert f"#{too_late.pk}" not in text
    assert "answered 100 % of the readings" in text


def test_a_node_that_nobody_probes_is_not_said_to_be_well(one: Node) -> None:
    Node.objects.update(last_seen_at=timezone.now() - timedelta(hours=20))

    text = words(browser_of(staff()).get(PAGE))

    assert "Not probed since" in text
    assert "unknown" in text


def test_it_tells_what_happened_to_it(one: Node) -> None:
    now = timezone.now()
    AuditEntry.objects.create(at=now, actor_name="ada", action="node.cordoned", target=f"node:{one.pk}")
    AuditEntry.objects.create(at=now, actor_name="mallory", action="node.drained", target=f"node:{one.pk}0")
    Incident.objects.create(
        kind="node_down", subject=f"node:{one.pk}", name="one", severity="critical", sentence="no route to host",
        first_seen_at=now - HOUR, last_seen_at=now, opened_at=now - HOUR, closed_at=now,
    )  # fmt: skip

    Incident.objects.create(
        kind="node_disk", subject=f"node:{one.pk}", name="one", severity="warning", sentence="disk is full",
        first_seen_at=now - 2 * HOUR, last_seen_at=now, opened_at=now - 2 * HOUR, acknowledged_at=now,
        acknowledged_by=make_user("olga"),
    )  # fmt: skip
    AuditEntry.objects.create(at=now - 3 * HOUR, actor_name="pia", action="node.draining", target=f"node:{one.pk}")

    text = words(browser_of(staff("view_auditentry")).get(PAGE))

    told = ["Cordoned by ada", "no route to host", "disk is full", "olga looks after it", "Draining was begun by pia"]
    places = [text.find(sentence) for sentence in told]
    assert -1 not in places
    assert places == sorted(places)
    assert "/monitor/incidents/#incident-" in text
    assert "mallory" not in text


def test_deeds_are_for_who_may_view_audit_entries(one: Node) -> None:
    AuditEntry.objects.create(at=timezone.now(), actor_name="ada", action="node.cordoned", target=f"node:{one.pk}")

    text = words(browser_of(staff("change_node")).get(PAGE))

    assert "by ada" not in text
    assert "they are for who may view audit entries" in text


def test_a_node_that_never_was_read_has_a_page_too(one: Node) -> None:
    text = words(browser_of(staff()).get(PAGE))

    assert "no reading in this time" in text
    assert "None was seen on it." in text


def test_one_that_was_removed_is_history_and_nothing_can_be_done_to_it(one: Node) -> None:
    Node.objects.update(state="removed")
    client = browser_of(staff("change_node"))

    text = words(client.get(PAGE))

    assert "was removed from the fleet" in text
    assert "Drain" not in text
    for deed in DEEDS:
        assert client.post(PAGE + deed).status_code == 404
    assert state() == "removed"


@pytest.mark.parametrize("name", ["nobody", "ONE", "%00", "one%20", "x" * 200, "-one"])
def test_an_unknown_node_is_not_found(name: str, one: Node) -> None:
    client = browser_of(staff("change_node"))

    for path in ("", "series", "drain/"):
        assert client.get(f"/monitor/nodes/{name}/{path}").status_code == 404
    for deed in DEEDS:
        assert client.post(f"/monitor/nodes/{name}/{deed}").status_code == 404


# ---- charts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("span", "step", "most"), [("1h", 15, 242), ("24h", 60, 1442), ("14d", 3600, 338)])
def test_the_figures_of_the_charts(span: str, step: int, most: int, one: Node) -> None:
    run(make_reservation(now=timezone.now() - timedelta(minutes=10)))
    read(one)

    found = browser_of(staff()).get(SERIES, {"span": span}).json()

    assert found["step_s"] == step
    assert 0 < len(found["at"]) <= most
    assert all(len(line) == len(found["at"]) for line in found["values"].values())
    last = {name: [v for v in line if v is not None][-1:] for name, line in found["values"].items()}
    assert last["reachable"] == [1]
    assert last["cores_used"] == [1.5]
    assert last["memory_used_mib"] == [2048]
    assert last["volumes_used"] == [0.75]
    assert max(found["values"]["ram_lent_mib"]) == 512 or step > 15  # it began this minute


def test_without_a_span_it_is_the_last_hour(one: Node) -> None:
    assert browser_of(staff()).get(SERIES).json()["step_s"] == 15


@pytest.mark.parametrize("span", ["2h", "", "1H", "%00", "14", "-1h"])
def test_a_span_that_there_is_none_of_is_refused_by_name(span: str, one: Node) -> None:
    client = browser_of(staff())

    answer = client.get(f"{SERIES}?span={span}")

    assert answer.status_code == 400
    assert "there are 1h, 24h, 14d" in answer.json()["detail"]
    assert client.get(f"{PAGE}?span={span}").status_code == 404


def test_the_same_figures_are_in_a_table_for_who_sees_no_charts(one: Node) -> None:
    read(one, load_1=7.25)

    text = words(browser_of(staff()).get(PAGE))

    assert '<td class="num">7.2</td>' in text


# ---- who --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["", "series", "drain/"])
def test_it_is_for_staff(path: str, one: Node) -> None:
    assert browser_of(None).get(PAGE + path).status_code == 302
    assert browser_of(make_user()).get(PAGE + path).status_code == 404


@pytest.mark.parametrize("deed", DEEDS)
def test_who_may_not_change_nodes_is_refused_and_sees_no_button(deed: str, one: Node) -> None:
    Node.objects.update(state="cordoned" if deed == "uncordon/" else "active")
    before = state()

    assert browser_of(staff()).post(PAGE + deed, {"confirm": "yes"}).status_code == 403
    assert browser_of(make_user()).post(PAGE + deed, {"confirm": "yes"}).status_code == 404
    assert browser_of(None).post(PAGE + deed, {"confirm": "yes"}).status_code == 302
    assert state() == before
    assert PAGE + deed not in words(browser_of(staff()).get(PAGE))
    assert PAGE + deed in words(browser_of(staff("change_node")).get(PAGE))


@pytest.mark.parametrize("deed", ["cordon/", "uncordon/"])
def test_looking_changes_nothing(deed: str, one: Node) -> None:
    assert browser_of(staff("change_node")).get(PAGE + deed).status_code == 405


# ---- deeds ------------------------------------------------------------------------------------------------


def test_cordon_and_put_back_are_noted(one: Node) -> None:
    ada = staff("change_node", name="ada")
    client = browser_of(ada)

    said = words(client.post(f"{PAGE}cordon/", follow=True))
    assert (state(), "one is cordoned" in said) == ("cordoned", True)

    said = words(client.post(f"{PAGE}uncordon/", follow=True))
    assert (state(), "one is in service" in said) == ("active", True)
    actions = AuditEntry.objects.filter(target=f"node:{one.pk}", actor=ada).order_by("pk")
    assert list(actions.values_list("action", flat=True)) == ["node.cordoned", "node.active"]


def drain(confirm: str = "") -> Any:
    return browser_of(staff("change_node")).post(f"{PAGE}drain/", {"confirm": confirm} if confirm else {})


def test_an_empty_node_is_drained_at_once(one: Node) -> None:
    assert "Nothing is on it" in words(browser_of(staff("change_node")).get(f"{PAGE}drain/"))

    assert drain().status_code == 302
    assert state() == "draining"


def test_the_preview_says_what_moves_and_where(one: Node) -> None:
    container = book_and_run(make_user())
    big_node("two")

    text = words(browser_of(staff("change_node")).get(f"{PAGE}drain/"))

    assert "1 would move" in text
    assert f"#{container.reservation_id}" in text
    assert "two" in text
    assert 'name="confirm"' not in text
    assert state() == "active"
    assert drain().status_code == 302
    assert state() == "draining"


def test_what_would_be_left_behind_is_named_and_must_be_confirmed(one: Node) -> None:
    container = book_and_run(make_user())

    answer = browser_of(staff("change_node")).get(f"{PAGE}drain/")
    assert "1 cannot leave" in words(answer)
    assert 'name="confirm"' in words(answer)

    refused = drain()

    assert refused.status_code == 422
    assert f"1 reservation cannot leave one (#{container.reservation_id}). Nothing was changed" in words(refused)
    assert state() == "active"
    for half in ("no", "on", "0"):
        assert drain(half).status_code == 422
    assert drain("yes").status_code == 302
    assert state() == "draining"


def test_a_draining_node_can_be_put_back(one: Node) -> None:
    Node.objects.update(state="draining")

    text = words(browser_of(staff("change_node")).get(PAGE))

    assert "Put back into service" in text
    assert "drain/" not in text


# ---- how many queries -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [PAGE, SERIES, f"{PAGE}drain/"])
def test_it_asks_as_often_for_many_containers_as_for_one(path: str, one: Node) -> None:
    client, counts, ada = browser_of(staff("change_node")), [], generous(make_user())
    now: datetime = timezone.now()
    for more in (1, 49):
        for _ in range(more):
            read_container(book_and_run(ada))
            make_reservation(ada, now=now, start=now + timedelta(days=1))
        client.get(path)
        with CaptureQueriesContext(connection) as asked:
            assert client.get(path).status_code == 200
        counts.append(len(asked))

    assert counts[0] == counts[1] <= 20
