"""The bell, the list of news, what somebody wants to hear, and the link that ends mails."""

from datetime import timedelta
from typing import Any

import pytest
from django.core import signing
from django.db import DatabaseError
from django.utils import timezone

from accounts import choosing, news
from accounts.choosing import Ways
from accounts.models import AuditEntry, Notice, Notification, NotificationChoice, User
from accounts.notifying import notify
from tests.factories import make_user

pytestmark = pytest.mark.django_db
LIST, CHOICES = "/accounts/notifications/", "/accounts/notifications/choices/"


def tell(user: User, key: str = "started:7", **values: Any) -> Notification:
    defaults: dict[str, Any] = {
        "kind": Notice.STARTED,
        "title": f"nginx ({key}) runs",
        "text": "It answers.",
        "path": "/reservations/",
        "now": timezone.now(),
    }
    notify(user=user, key=key, **{**defaults, **values})
    return Notification.objects.get(user=user, key=key)


def is_read(row: Notification) -> bool:
    return Notification.objects.get(pk=row.pk).read_at is not None


# ---- the bell -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("many", "count"), [(0, ""), (1, "1"), (9, "9"), (10, "9+"), (30, "9+")])
def test_the_bell_counts_to_nine(many: int, count: str, owner: User, browser: Any) -> None:
    for number in range(many):
        tell(owner, f"k{number}")

    page = browser(owner).get("/reservations/").content.decode()

    assert (f'<span class="bell-count" aria-hidden="true">{count}</span>' in page) == bool(many)
    assert (f"Notifications, {count} unread" in page) == bool(many)


def test_the_bell_costs_each_page_one_query(owner: User, browser: Any, django_assert_max_num_queries: Any) -> None:
    client, mine = browser(owner), []
    for many in (0, 50):
        for number in range(many):
            tell(owner, f"k{number}")
        with django_assert_max_num_queries(60) as queries:
            client.get("/reservations/")
        mine.append([query for query in queries if "accounts_notification" in query["sql"]])

    assert [len(found) for found in mine] == [1, 1]


def test_nobody_in_particular_has_no_bell(browser: Any) -> None:
    page = browser(None).get("/").content.decode()

    assert 'id="bell"' not in page
    assert "bell.js" not in page


def test_a_page_comes_without_its_count_when_that_cannot_be_asked(
    owner: User, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(user: User) -> Any:
        raise DatabaseError("no")

    monkeypatch.setattr(news, "shown_to", broken)

    assert 'id="bell"' in browser(owner).get("/reservations/").content.decode()


def test_the_bell_alone_tells_what_is_new(owner: User, other: User, browser: Any) -> None:
    tell(owner), tell(other, "theirs")
    last = tell(owner, "failed:7", title="<b>nginx</b> failed")

    answer = browser(owner).get("/accounts/notifications/bell/").content.decode()

    assert f'data-last="{last.pk}"' in answer
    assert 'data-title="&lt;b&gt;nginx&lt;/b&gt; failed"' in answer
    assert "2 unread" in answer
    assert "<html" not in answer


# ---- the list -----------------------------------------------------------------------------------------------


def test_the_list_is_empty_with_what_it_is_for(owner: User, browser: Any) -> None:
    client = browser(owner)

    assert "No notifications yet" in client.get(LIST).content.decode()
    assert "Nothing unread" in client.get(f"{LIST}?show=unread").content.decode()


@pytest.mark.parametrize("many", [1, 50])
def test_the_list_asks_the_same_whatever_it_shows(
    many: int, owner: User, browser: Any, django_assert_num_queries: Any
) -> None:
    for number in range(many):
        tell(owner, f"k{number}")
    client = browser(owner)
    client.get(LIST)

    # session, user; the bell's; how many, those, the unread; the workspaces of the top bar
    with django_assert_num_queries(7):
        client.get(LIST)


def test_the_list_is_ones_own_and_without_what_is_mailed_alone(owner: User, other: User, browser: Any) -> None:
    NotificationChoice.objects.create(user=owner, kind=Notice.ENDED, in_app=False)
    tell(owner), tell(owner, "by-mail-alone", kind=Notice.ENDED), tell(other, "theirs")

    page = browser(owner).get(LIST).content.decode()

    assert "started:7" in page
    assert "by-mail-alone" not in page
    assert "theirs" not in page


@pytest.mark.parametrize("page", ["2", "99", "0", "-1", "x", "9" * 40, "%00"])
def test_any_page_number_shows_a_page(page: str, owner: User, browser: Any) -> None:
    for number in range(30):
        tell(owner, f"k{number}")

    assert browser(owner).get(f"{LIST}?page={page}").status_code == 200


def test_one_is_read_and_leads_where_it_is_about(owner: User, browser: Any) -> None:
    row = tell(owner)
    client = browser(owner)

    assert client.post(f"{LIST}{row.pk}/read/", {"go": "1"})["Location"] == "/reservations/"
    assert is_read(row)
    at = Notification.objects.get().read_at
    assert client.post(f"{LIST}{row.pk}/read/")["Location"] == LIST
    assert Notification.objects.get().read_at == at
    assert "is-unread" not in client.get(LIST).content.decode()


@pytest.mark.parametrize("number", ["0", "999999", str(2**63), "9" * 30])
def test_a_number_that_is_nobodys_is_not_found(number: str, owner: User, browser: Any) -> None:
    assert browser(owner).post(f"{LIST}{number}/read/").status_code == 404


def test_somebody_elses_is_not_read(owner: User, other: User, browser: Any) -> None:
    row = tell(owner)

    assert browser(other).post(f"{LIST}{row.pk}/read/").status_code == 404
    assert not is_read(row)


def test_all_are_read_but_what_came_since_the_list_was_shown(owner: User, other: User, browser: Any) -> None:
    rows = [tell(owner, f"k{number}") for number in range(12)]
    client = browser(owner)
    until = client.get(LIST).context["unread"].last
    late, theirs = tell(owner, "late"), tell(other)

    client.post(f"{LIST}read/", {"until": str(until)})

    assert all(is_read(row) for row in rows)
    assert not is_read(late)
    assert not is_read(theirs)


@pytest.mark.parametrize("until", ["", "x", "-1", "9" * 40, "\0", "٣", "1.5"])
def test_a_bad_number_reads_nothing(until: str, owner: User, browser: Any) -> None:
    row = tell(owner)

    assert browser(owner).post(f"{LIST}read/", {"until": until}).status_code == 302
    assert not is_read(row)


def test_old_news_are_forgotten_and_the_rest_is_kept(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()
    monkeypatch.setattr(news, "AT_ONCE", 2)
    for number in range(5):
        tell(owner, f"old{number}", now=now - timedelta(days=90, seconds=1))
    tell(owner, "new", now=now - timedelta(days=90))

    assert news.prune(now) == 5
    assert [row.key for row in Notification.objects.all()] == ["new"]


# ---- choices ------------------------------------------------------------------------------------------------


def test_who_never_chose_hears_all_both_ways(owner: User, browser: Any) -> None:
    page = browser(owner).get(CHOICES).content.decode()

    assert page.count("checked>") == 2 * len(Notice)
    assert all(kind.label in page for kind in Notice)


def test_the_choices_are_kept_and_recorded_once(owner: User, browser: Any) -> None:
    client = browser(owner)
    form = {f"{kind}-page": "on" for kind in Notice} | {"failed-mail": "on"}
    for _ in range(2):
        assert client.post(CHOICES, form)["Location"] == CHOICES

    assert choosing.choices_of(owner) == {kind: Ways(True, kind == Notice.FAILED) for kind in Notice}
    (entry,) = AuditEntry.objects.filter(action="notifications.choose")
    assert entry.data["choices"]["started"] == [True, False]
    assert "failed" not in entry.data["choices"]


def test_nonsense_in_the_form_chooses_nothing_else(owner: User, other: User, browser: Any) -> None:
    form = {f"{kind}-{way}": "\0" for kind in Notice for way in ("page", "mail")}
    browser(owner).post(CHOICES, form | {"nonsense-mail": "on", "user": str(other.pk), "🐳" * 500: "1"})

    assert choosing.choices_of(owner) == dict.fromkeys(Notice, Ways())
    assert not NotificationChoice.objects.exists()


def test_who_has_no_address_is_told_so(owner: User, browser: Any) -> None:
    User.objects.filter(pk=owner.pk).update(email="")

    assert "has no e-mail address" in browser(owner).get(CHOICES).content.decode()


# ---- the link in a mail -------------------------------------------------------------------------------------


def stop(user: User, kind: str = "started") -> str:
    return f"/accounts/notifications/stop/{choosing.token(user, kind)}/"


def test_the_link_ends_mails_of_its_kind_without_log_in(owner: User, browser: Any) -> None:
    NotificationChoice.objects.create(user=owner, kind=Notice.STARTED, in_app=False, by_mail=True)
    client = browser(None)

    shown = client.get(stop(owner))
    assert "A reservation started" in shown.content.decode()
    assert choosing.choices_of(owner)[Notice.STARTED].by_mail

    for _ in range(2):
        assert "No more of these mails" in client.post(stop(owner)).content.decode()
    ways = choosing.choices_of(owner)
    assert ways[Notice.STARTED] == Ways(in_app=False, by_mail=False)
    assert all(way == Ways() for kind, way in ways.items() if kind != Notice.STARTED)
    assert AuditEntry.objects.filter(action="notifications.choose").count() == 1


def test_the_link_of_a_mail_about_many_things_ends_all(owner: User, browser: Any) -> None:
    browser(None).post(stop(owner, ""))

    assert not any(way.by_mail for way in choosing.choices_of(owner).values())
    assert all(way.in_app for way in choosing.choices_of(owner).values())


def test_a_mail_program_may_post_to_it_by_itself(owner: User) -> None:
    from django.test import Client

    client = Client(enforce_csrf_checks=True)

    assert client.post(stop(owner), {"List-Unsubscribe": "One-Click"}).status_code == 200
    assert not choosing.choices_of(owner)[Notice.STARTED].by_mail


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize(
    "token",
    [
        "x",
        "a" * 2000,
        "%00",
        signing.dumps(["x"], salt="another purpose"),
        signing.dumps("text", salt=choosing.SALT),
        signing.dumps([1, "nonsense"], salt=choosing.SALT),
        signing.dumps([["a"], "ended"], salt=choosing.SALT),
        signing.dumps([2**70, "ended"], salt=choosing.SALT),
    ],
    ids=["short", "long", "NUL", "another's", "text", "of no kind", "of a list", "of a huge number"],
)
def test_a_link_that_is_not_ours_says_so(token: str, method: str, owner: User, browser: Any) -> None:
    answer = getattr(browser(None), method)(f"/accounts/notifications/stop/{token}/")

    assert answer.status_code == 404
    assert "This link does not work" in answer.content.decode()
    assert not NotificationChoice.objects.exists()


def test_a_changed_link_is_refused(owner: User, other: User, browser: Any) -> None:
    mine, theirs = choosing.token(owner, "ended"), choosing.token(other, "ended")
    mixed = ":".join([mine.split(":")[0], *theirs.split(":")[1:]])

    assert browser(None).post(f"/accounts/notifications/stop/{mixed}/").status_code == 404


def test_an_old_link_is_refused(owner: User, browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "GOOD_FOR", timedelta(seconds=-1))

    assert "too old" in browser(None).get(stop(owner)).content.decode()


@pytest.mark.parametrize("gone", [{"is_active": False}, {"closed_at": timezone.now()}])
def test_the_link_of_somebody_who_left_says_that_nothing_is_mailed(
    gone: dict[str, Any], owner: User, browser: Any
) -> None:
    User.objects.filter(pk=owner.pk).update(**gone)

    answer = browser(None).post(stop(owner))

    assert (answer.status_code, "is closed" in answer.content.decode()) == (404, True)
    assert not NotificationChoice.objects.exists()


# ---- the API ------------------------------------------------------------------------------------------------


def test_the_api_lists_and_reads(owner: User, other: User, api: Any) -> None:
    old, new = tell(owner, "old"), tell(owner, "new")
    theirs = tell(other)

    assert [row["id"] for row in api("GET", "/notifications").json()] == [new.pk, old.pk]
    read = api("POST", f"/notifications/{old.pk}/read")
    assert (read.status_code, read.json()["read_at"] is not None) == (200, True)
    assert [row["id"] for row in api("GET", "/notifications?unread=true").json()] == [new.pk]
    assert [row["id"] for row in api("GET", "/notifications?unread=false").json()] == [old.pk]
    assert [row["id"] for row in api("GET", f"/notifications?before={new.pk}&limit=1").json()] == [old.pk]
    assert api("POST", f"/notifications/{theirs.pk}/read").status_code == 404
    assert not is_read(theirs)


@pytest.mark.parametrize(
    "question", ["unread=perhaps", "limit=0", "limit=501", "before=0", f"before={2**63}", "limit=x"]
)
def test_the_api_refuses_nonsense_in_words(question: str, api: Any) -> None:
    answer = api("GET", f"/notifications?{question}")

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


@pytest.mark.parametrize("number", ["0", str(2**63), "9" * 30])
def test_the_api_knows_no_such_number(number: str, api: Any) -> None:
    assert api("POST", f"/notifications/{number}/read").status_code == 404


@pytest.mark.parametrize("many", [1, 50])
def test_the_api_asks_the_same_however_many(many: int, owner: User, api: Any, django_assert_num_queries: Any) -> None:
    for number in range(many):
        tell(owner, f"k{number}")
    api("GET", "/notifications")

    with django_assert_num_queries(2):  # the token with its person; the news
        assert len(api("GET", "/notifications").json()) == many


def test_two_people_choose_apart(owner: User) -> None:
    second = make_user()
    choosing.choose(user=owner, ways={Notice.ENDED: Ways(False, False)}, by=owner)

    assert choosing.choices_of(second)[Notice.ENDED] == Ways()
