"""News for people: told once, as they chose, within the transaction of what happened."""

import threading
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from accounts import notifying
from accounts.models import Notice, Notification, NotificationChoice, User
from accounts.notifying import GOOD_FOR, News, notify, tell
from tests.factories import HOUR, NOW, make_user

pytestmark = pytest.mark.django_db


def told(user: User, key: str = "started:7", **values: Any) -> bool:
    defaults: dict[str, Any] = {
        "kind": Notice.STARTED,
        "title": "nginx started",
        "text": "It answers.",
        "path": "/reservations/7/",
        "now": NOW,
    }
    return notify(user=user, key=key, **{**defaults, **values})


def test_news_are_in_the_page_and_due_by_mail() -> None:
    user = make_user()

    assert told(user)

    row = Notification.objects.get()
    assert (row.user, row.kind, row.title, row.text, row.path) == (
        user,
        Notice.STARTED,
        "nginx started",
        "It answers.",
        "/reservations/7/",
    )
    assert (row.in_app, row.by_mail, row.created_at, row.mail_at) == (True, True, NOW, NOW)
    assert (row.read_at, row.mailed_at, row.mail_attempts) == (None, None, 0)
    assert row.mail_until == NOW + GOOD_FOR


def test_the_same_is_told_once_and_stays_as_it_was() -> None:
    user, other = make_user(), make_user()
    told(user)

    assert not told(user, title="other words", now=NOW + HOUR)
    assert told(other)

    assert Notification.objects.get(user=user).title == "nginx started"


def test_each_choice_is_heeded_and_a_row_stays_of_what_nobody_wants() -> None:
    user = make_user()
    NotificationChoice.objects.create(user=user, kind=Notice.STARTED, in_app=True, by_mail=False)
    NotificationChoice.objects.create(user=user, kind=Notice.FAILED, in_app=False, by_mail=True)
    NotificationChoice.objects.create(user=user, kind=Notice.ENDED, in_app=False, by_mail=False)

    for kind in (Notice.STARTED, Notice.FAILED, Notice.ENDED, Notice.MOVED):
        assert told(user, str(kind), kind=kind)

    ways = {row.key: (row.in_app, row.by_mail, row.mail_at) for row in Notification.objects.all()}
    assert ways == {
        "started": (True, False, None),
        "failed": (False, True, NOW),
        "ended": (False, False, None),
        "moved": (True, True, NOW),
    }
    NotificationChoice.objects.all().delete()
    assert not told(user, "ended", kind=Notice.ENDED)


def test_somebody_without_an_address_gets_no_mail() -> None:
    user = make_user()
    User.objects.filter(pk=user.pk).update(email="")

    assert told(user)

    row = Notification.objects.get()
    assert (row.in_app, row.by_mail, row.mail_at) == (True, False, None)


@pytest.mark.parametrize("gone", [{"is_active": False}, {"closed_at": NOW}])
def test_who_is_inactive_or_closed_is_told_nothing(gone: dict[str, Any]) -> None:
    user = make_user()
    User.objects.filter(pk=user.pk).update(**gone)

    assert not told(user)
    assert not Notification.objects.exists()


def test_a_user_that_was_deleted_is_told_nothing_and_the_others_are() -> None:
    user = make_user()
    gone = News(user.pk + 1000, Notice.ENDED, "k", "t", "x", "")

    assert tell([gone, News(user.pk, Notice.ENDED, "k", "t", "x", "")], now=NOW) == {(user.pk, "k")}


def test_what_is_rolled_back_was_not_told() -> None:
    user = make_user()
    with transaction.atomic():
        told(user)
        transaction.set_rollback(True)

    assert not Notification.objects.exists()
    assert told(user)


def test_many_are_told_in_one_query(django_assert_num_queries: Any) -> None:
    users = [make_user() for _ in range(20)]
    with transaction.atomic(), django_assert_num_queries(3):  # with the savepoint's two
        new = tell([News(user.pk, Notice.ENDED, "k", "t", "x", "") for user in users], now=NOW)

    assert new == {(user.pk, "k") for user in users}


def test_nobody_to_tell_asks_nothing(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert tell([], now=NOW) == set()


def test_a_long_text_is_cut_at_a_word_and_a_title_has_one_line() -> None:
    user = make_user()
    told(user, title="a\r\nBcc: b\0  c", text="word " * 200)

    row = Notification.objects.get()
    assert row.title == "a Bcc: b c"
    assert row.text.endswith("word…")
    assert len(row.text) <= 600


def test_five_hundred_emoji_fit() -> None:
    user = make_user()
    told(user, title="🐳" * 500, text="🐳" * 700)

    row = Notification.objects.get()
    assert (row.title, row.text) == ("🐳" * 199 + "…", "🐳" * 599 + "…")


def test_what_is_cut_fits_the_columns() -> None:
    columns = {field.attname: getattr(field, "max_length", None) for field in Notification._meta.concrete_fields}

    assert {name: columns[name] for name in notifying._LONGEST} == notifying._LONGEST


@pytest.mark.parametrize("key", ["", "k" * 121])
def test_a_key_that_does_not_fit_is_a_mistake_of_the_program(key: str) -> None:
    with pytest.raises(ValueError, match="a key has 1 to 120"):
        told(make_user(), key)


@pytest.mark.parametrize("path", ["https://evil.example/", "//evil.example/", "reservations/7/"])
def test_news_lead_to_our_pages_alone(path: str) -> None:
    with pytest.raises(ValueError, match="one of ours"):
        told(make_user(), path=path)


@pytest.mark.django_db(transaction=True)
def test_two_that_tell_the_same_at_once_tell_it_once() -> None:
    user = make_user()
    new: list[bool] = []

    def tell_it() -> None:
        try:
            new.append(told(user, now=timezone.now()))
        finally:
            connection.close()

    with transaction.atomic():
        assert told(user)
        other = threading.Thread(target=tell_it)
        other.start()
    other.join(timeout=20)

    assert new == [False]
    assert Notification.objects.count() == 1
