"""The health report: its figures, its files, its page, its mail."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.backends.postgresql.psycopg_any import DateTimeTZRange  # type: ignore[import-untyped]
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import AuditEntry, User
from compute import partitions
from compute.models import Allocation, Node, NodeHour, Sample, SamplingMark
from monitoring import report_files, report_mail, report_periods, report_tables, reports
from monitoring.models import Incident
from monitoring.report_periods import NoSuchPeriod
from monitoring.reports import Report
from reservations import actions, moving
from reservations.models import Event, Reservation, UsagePeriod
from reservations.states import State
from tests.factories import make_booking, make_node, make_reservation, make_storage, make_user, workspace_of
from tests.unit.portal.doors import log_in, make_factor

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 5, 11, 10, 20, tzinfo=UTC)  # a Monday
SINCE = datetime(2026, 5, 11, 0, 0, tzinfo=UTC)
PAGE = "/monitor/reports/"


@pytest.fixture(autouse=True)
def _plain_http(settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = False


def report(since: datetime = SINCE, until: datetime = NOW) -> Report:
    return reports.report(since, until, NOW)


def read_hours(node: Node, *hours: tuple[int, int], **values: Any) -> None:
    """(readings, of these reachable) for the hours of the day from midnight on, rolled up."""
    partitions.ensure(SINCE)
    for number, (readings, reachable) in enumerate(hours):
        at = SINCE + timedelta(hours=number)
        NodeHour.objects.create(node=node, at=at, readings=readings, reachable=reachable, **values)
    rolled = SINCE + timedelta(hours=len(hours))
    SamplingMark.objects.update_or_create(name=SamplingMark.Name.NODES, defaults={"at": rolled})


def booked(user: User, created_at: datetime, start: datetime | None = None, **values: Any) -> Reservation:
    """A reservation that was made then, and has its first event."""
    found = make_reservation(user, now=created_at, start=start)
    Reservation.objects.filter(pk=found.pk).update(created_at=created_at, start=start or created_at, **values)
    return found


def moved_to(reservation: Reservation, state: State | str, at: datetime, text: str = "") -> None:
    Event.objects.create(reservation=reservation, at=at, new_state=state, text=text, by="Berth")


# ---- figures --------------------------------------------------------------------------------------------------


def test_availability_is_the_share_of_readings_that_were_answered() -> None:
    one, two, three = make_node("one"), make_node("two"), make_node("three")
    read_hours(one, (240, 240), (240, 120))
    read_hours(two, (240, 0), (0, 0))
    for number in range(4):  # since what was rolled up
        Sample.objects.create(node=one, at=SINCE + timedelta(hours=2, seconds=15 * number), reachable=number > 0)

    found = {node.name: node for node in report().nodes}

    assert found["one"].available == pytest.approx((240 + 120 + 3) / (480 + 4))
    assert found["two"].available == 0
    assert found["three"].available is None
    assert found["one"].read == pytest.approx(484 * 15 / (NOW - SINCE).total_seconds())
    assert three.name == "three"


def test_a_removed_node_is_in_it_if_it_was_seen() -> None:
    read_hours(make_node("gone", state=Node.State.REMOVED), (240, 240))
    make_node("long-gone", state=Node.State.REMOVED)

    assert [node.name for node in report().nodes] == ["gone"]


def test_held_and_used_are_means_over_the_period() -> None:
    node = make_node("one", cores=Decimal(4), ram_mib=4000)
    for taken, released in ((-5, 5), (5, None)):  # hours from the beginning: half of the period each
        Allocation.objects.create(
            node=node,
            ram_mib=1000,
            cores=2,
            during=DateTimeTZRange(SINCE - timedelta(days=1), NOW + timedelta(days=1)),
            taken_at=SINCE + timedelta(hours=taken),
            released_at=None if released is None else SINCE + timedelta(hours=released),
        )
    read_hours(node, (240, 240), (240, 120), cores_used=1.5, memory_total_mib=8000, memory_free_mib=2000)

    [found] = report(until=SINCE + timedelta(hours=10)).nodes

    assert found.cores_held == pytest.approx(2)
    assert found.ram_held == pytest.approx(0.25)
    assert found.cores_used == pytest.approx(1.5)
    assert found.ram_used == pytest.approx(0.75)


def test_a_start_is_measured_from_when_it_was_due_to_the_first_answer() -> None:
    make_node()
    user = make_user()
    at_once = booked(user, SINCE + timedelta(hours=1))
    moved_to(at_once, State.RUNNING, SINCE + timedelta(hours=1, seconds=2))
    moved_to(at_once, State.RUNNING, SINCE + timedelta(hours=3))  # again, after a move: no start
    ahead = booked(user, SINCE, SINCE + timedelta(hours=4))
    moved_to(ahead, State.RUNNING, SINCE + timedelta(hours=4, seconds=100))
    before = booked(user, SINCE - timedelta(days=1))
    moved_to(before, State.RUNNING, SINCE - timedelta(hours=23))
    moved_to(before, State.RUNNING, SINCE + timedelta(hours=2))

    found = report().starts

    assert (found.count, found.over_a_minute) == (2, 1)
    assert (found.p50_s, found.longest_s) == (51, 100)
    assert found.p99_s == pytest.approx(99.02)


def test_an_offer_that_nobody_took_neither_ended_nor_failed_and_one_that_was_taken_did() -> None:
    make_node()
    user = make_user()
    offer = actions.Offer(SINCE + timedelta(minutes=15), starts_when_taken=True)
    with transaction.atomic():
        lapsed, lost, taken = [
            actions.hold(booking=make_booking(), workspace=workspace_of(user), by=user, now=SINCE, offer=offer)
            for _ in range(3)
        ]
    Reservation.objects.update(failure="Lost.")
    moved_to(taken, State.BOOKED, SINCE + timedelta(hours=4))
    for row in (lapsed, taken):
        moved_to(row, State.ENDED, SINCE + timedelta(hours=5))
    moved_to(lost, State.FAILED, SINCE + timedelta(hours=5))

    found = report()

    assert (found.reservations.booked, found.reservations.ended, found.reservations.failed) == (1, 1, 0)
    assert found.reasons == []


def test_failures_are_counted_by_reason_and_moves_by_their_notes() -> None:
    make_node()
    user = make_user()
    for number, failure in enumerate(["No answer.", "No answer.", "No room."]):
        row = booked(user, SINCE + timedelta(hours=number), failure=failure)
        moved_to(row, State.FAILED, SINCE + timedelta(hours=number, minutes=5))
        moved_to(row, "", SINCE + timedelta(hours=number), f"Its node was lost; {moving.MOVED}")
    moved_to(row, State.STARTING, SINCE + timedelta(hours=3), f"It fell; {moving.MOVED} {moving.LOST_DATA}")
    moved_to(row, State.FAILED, SINCE - timedelta(hours=3))

    found = report()

    assert [(reason.text, reason.count) for reason in found.reasons] == [("No answer.", 2), ("No room.", 1)]
    happened = found.reservations
    assert (happened.booked, happened.failed, happened.moved, happened.lost_data) == (3, 3, 4, 1)


def test_customers_are_those_with_the_most_core_hours_within_the_period() -> None:
    make_node(cores=Decimal(64), ram_mib=65_536)
    for number in range(25):
        row = booked(make_user(f"customer{number:02}"), SINCE)
        begin, end = SINCE - timedelta(hours=2), SINCE + timedelta(hours=1 + number / 10)
        UsagePeriod.objects.create(reservation=row, generation=1, cores=2, during=DateTimeTZRange(begin, end))
    UsagePeriod.objects.create(reservation=row, generation=2, cores=2, during=DateTimeTZRange(end, None))

    found = report(until=SINCE + timedelta(hours=4))

    assert found.customers[0].workspace == workspace_of(User.objects.get(username="customer24")).name
    assert found.customers[0].core_hours == pytest.approx(8)  # what still serves counts until the end
    assert (len(found.customers), found.workspaces) == (20, 25)
    assert found.core_hours == pytest.approx(sum(2 * (1 + n / 10) for n in range(24)) + 8)


def test_incidents_are_those_of_the_period_with_their_part_in_it() -> None:
    node = make_node("one")

    def incident(opened: float | None, closed: float | None, kind: str = "node_down") -> None:
        times = [None if h is None else SINCE + timedelta(hours=h) for h in (opened, closed)]
        Incident.objects.create(
            kind=kind, subject=f"node:{node.pk}", name="one", severity="critical", sentence="It is away.",
            first_seen_at=SINCE, last_seen_at=NOW, opened_at=times[0], closed_at=times[1],
        )  # fmt: skip

    incident(-2, 1)
    incident(-9, -8)
    incident(3, None)
    incident(None, None, kind="disk_full")  # nobody was told

    found = report(until=SINCE + timedelta(hours=5))

    assert [(row.title, row.within_s) for row in found.incidents] == [("one is down", 7200), ("one is down", 3600)]
    assert (found.incident_count, found.nodes[0].incidents) == (2, 2)


def test_an_empty_period_says_so() -> None:
    found = report()
    text = report_files.as_html(found)

    assert found.is_empty
    assert (found.available, found.starts.p50_s) == (None, None)
    for sentence in ("There are no nodes.", "Nothing was started.", "Nobody had anything served.", "Nothing is known"):
        assert sentence in text


def test_the_number_of_queries_does_not_grow() -> None:
    make_storage()
    make_node(cores=Decimal(64), ram_mib=65_536)
    counts = []
    for more in (1, 20):
        for _ in range(more):
            read_hours(make_node(), (240, 240))
            booked(make_user(), SINCE)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            report_files.make(report(), "html")
        counts.append(len(queries))

    assert counts[0] == counts[1] < 25


# ---- files ----------------------------------------------------------------------------------------------------


@pytest.fixture
def evil() -> None:
    """Names that would do something where they are pasted as they are."""
    make_node()
    user = make_user()
    row = booked(user, SINCE, failure='=HYPERLINK("http://evil")')
    moved_to(row, State.FAILED, SINCE + timedelta(hours=1))
    workspace = workspace_of(user)
    workspace.name = "<script>alert(1)</script>"
    workspace.save()
    UsagePeriod.objects.create(reservation=row, generation=1, cores=1, during=DateTimeTZRange(SINCE, NOW))


def test_html_escapes_names_and_loads_nothing(evil: None) -> None:
    text = report_files.as_html(report())

    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script" not in text
    assert "src=" not in text
    assert "<link" not in text


def test_csv_has_no_formula_and_every_value_in_a_row(evil: None) -> None:
    text = report_files.make(report(), "csv").text
    rows = list(csv.reader(io.StringIO(text.removeprefix("\N{BYTE ORDER MARK}"))))

    assert rows[0] == ["section", "row", "measure", "unit", "value"]
    assert {len(row) for row in rows} == {5}
    assert ["failures", '\'=HYPERLINK("http://evil")', "Reservations", "count", "1"] in rows
    assert not [cell for row in rows for cell in row if cell[:1] in "=+-@" and cell]
    assert ["reservations", "booked", "Number", "count", "1"] in rows


def test_json_has_the_names_that_programs_know(evil: None) -> None:
    read_hours(Node.objects.get(), (240, 240))

    body = json.loads(report_files.make(report(), "json").text)

    assert body["format"] == 1
    assert set(body) == {
        "format", "since", "until", "made_at", "nodes", "starts", "reservations", "reasons", "core_hours", "workspaces",
        "customers", "storage", "gateways", "incident_count", "incidents", "now",
    }  # fmt: skip
    assert body["since"] == "2026-05-11T00:00:00Z"
    assert set(body["nodes"][0]) == {
        "name", "state", "available", "read", "incidents", "cores_lent", "cores_held", "cores_used", "ram_lent_mib",
        "ram_held", "ram_used",
    }  # fmt: skip
    assert set(body["starts"]) == {"count", "p50_s", "p95_s", "p99_s", "longest_s", "over_a_minute"}
    assert set(body["reservations"]) == {"booked", "ended", "failed", "moved", "lost_data"}
    assert set(body["now"]) == {"due", "oldest_due_s", "open_incidents"}
    assert body["customers"] == [{"workspace": "<script>alert(1)</script>", "reservations": 1, "core_hours": 10.3333}]


def test_nothing_is_rounded_up_to_always() -> None:
    assert report_tables.shown(0.99999, report_tables.Unit.SHARE) == "99.99 %"
    assert report_tables.shown(1.0, report_tables.Unit.SHARE) == "100 %"


def test_people_see_the_worst_of_many_nodes_and_files_have_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_tables, "MOST_SHOWN", 2)
    for name, reachable in (("fine", 240), ("worst", 10), ("bad", 200)):
        read_hours(make_node(name), (240, reachable))

    [availability, *_] = report_tables.sections(report())

    assert [row[0].value for row in availability.cells] == ["worst", "bad"]
    assert "1 more rows are in the CSV" in report_files.as_html(report())
    assert "fine" in report_files.make(report(), "csv").text


# ---- periods --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "until", "first", "last"),
    [
        ("24h", "", datetime(2026, 5, 10, 10, tzinfo=UTC), NOW),
        ("2w", "2026-05-01", datetime(2026, 4, 27, 10, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC)),
        ("2026-05-01", "2026-05-01T06:00", datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 1, 6, tzinfo=UTC)),
        ("2026-05-01", "2027-01-01", datetime(2026, 5, 1, tzinfo=UTC), NOW),
    ],
)
def test_a_period_is_read(since: str, until: str, first: datetime, last: datetime) -> None:
    assert report_periods.period(since, until, NOW, UTC) == (first, last)


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2025-10-26", 25), ("2026-05-10", 24)])
def test_a_day_on_which_the_clocks_change_is_as_long_as_it_is(day: str, hours: int) -> None:
    node = make_node(cores=4)
    make_reservation()
    Allocation.objects.update(node=node, cores=4, taken_at=datetime(2025, 1, 1, tzinfo=UTC))

    since, until = report_periods.period(day, day, NOW, ZoneInfo("Europe/Berlin"))

    assert until - since == timedelta(hours=hours)
    assert report(since, until).nodes[0].cores_held == pytest.approx(4)


def test_where_days_begin_at_half_past_the_hours_are_those_of_the_readings() -> None:
    zone = ZoneInfo("Asia/Kolkata")
    node = make_node()
    read_hours(node, (240, 240))
    NodeHour.objects.create(node=node, at=datetime(2026, 5, 9, 18, tzinfo=UTC), readings=240, reachable=0)

    since, until = report_periods.period("2026-05-10", "2026-05-10", NOW, zone)

    assert (since, until) == (datetime(2026, 5, 9, 18, tzinfo=UTC), datetime(2026, 5, 10, 18, tzinfo=UTC))
    assert report(since, until).nodes[0].available == 0
    assert report_periods.moment("24h", NOW.astimezone(zone), zone) == datetime(2026, 5, 10, 10, tzinfo=UTC)


BAD = [
    ("yesterday", ""),
    ("0d", ""),
    ("-7d", ""),
    ("99999d", ""),
    ("9999d", ""),
    ("2026-13-01", ""),
    ("2026-02-30", ""),
    ("0001-01-01", ""),
    ("9999-12-31", ""),
    ("2027-01-01", ""),
    ("2026-05-03", "2026-05-01"),
    ("2020-01-01", ""),
    ("7d", "9999-12-31T99:00"),
    ("7d", "\x00"),
    ("20260501", ""),
    ("2026-05-01 <script>", ""),
]


@pytest.mark.parametrize(("since", "until"), BAD)
def test_what_is_no_period_is_told(since: str, until: str) -> None:
    with pytest.raises(NoSuchPeriod):
        report_periods.period(since, until, NOW, UTC)


# ---- command --------------------------------------------------------------------------------------------------


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("health_report", *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["html", "csv", "json"])
def test_the_command_prints_or_writes_the_report(tmp_path: Path, kind: str) -> None:
    make_node("one")
    file = tmp_path / f"report.{kind}"

    printed = run("--since=24h", f"--format={kind}")
    run("--since=24h", f"--format={kind}", f"--output={file}")

    assert "one" in printed
    assert "one" in file.read_text()
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_the_command_tells_bad_input(tmp_path: Path) -> None:
    for arguments, sentence in (
        (["--since=soon"], "'soon' is no period"),
        (["--mail=nobody"], "is no e-mail address"),
        ([f"--output={tmp_path}/none/report"], "cannot be written"),
        (["--format=pdf"], "invalid choice"),
    ):
        with pytest.raises(CommandError, match=sentence):
            run(*arguments)


def test_the_command_mails_it() -> None:
    run("--mail=ops@example.org")

    [message] = mail.outbox
    assert message.to == ["ops@example.org"]
    assert [attachment[2] for attachment in message.attachments] == ["text/html", "text/csv"]
    assert "The whole report is attached" in message.body


# ---- weekly mail ----------------------------------------------------------------------------------------------


@pytest.fixture
def readers(settings: Any) -> list[str]:
    settings.BERTH_REPORT_MAIL = ["head@example.org", "ops@example.org"]
    return list(settings.BERTH_REPORT_MAIL)


def test_last_week_is_mailed_once_to_each(readers: list[str]) -> None:
    sent = [report_mail.mail_weekly(NOW + timedelta(hours=hours)) for hours in (0, 1, 100)]

    assert sent == [2, 0, 0]
    assert [message.to for message in mail.outbox] == [[reader] for reader in readers]
    assert mail.outbox[0].subject == "[Berth] Health report, 04 May to 11 May 2026"
    assert report_mail.mail_weekly(NOW + timedelta(days=7)) == 2
    assert len({message.extra_headers["Message-ID"] for message in mail.outbox}) == 4


def test_nothing_is_mailed_before_monday_at_six_or_without_readers(readers: list[str], settings: Any) -> None:
    assert report_mail.mail_weekly(SINCE + timedelta(hours=5, minutes=59)) == 0
    settings.BERTH_REPORT_MAIL = []
    assert report_mail.mail_weekly(NOW) == 0


def test_who_did_not_get_it_gets_it_later(readers: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = EmailBackend.send_messages

    def refuse(self: EmailBackend, messages: Any) -> int:
        if messages[0].to == ["head@example.org"]:
            raise ConnectionRefusedError("no mail today")
        return int(real(self, messages))

    with monkeypatch.context() as patched:
        patched.setattr(EmailBackend, "send_messages", refuse)
        assert report_mail.mail_weekly(NOW) == 1

    assert report_mail.mail_weekly(NOW + timedelta(minutes=10)) == 1
    assert [message.to for message in mail.outbox] == [["ops@example.org"], ["head@example.org"]]
    assert AuditEntry.objects.filter(action="report.mail", target="week:2026-05-04").count() == 2


# ---- page -----------------------------------------------------------------------------------------------------


@pytest.fixture
def browser() -> Client:
    person = make_user("ada", is_staff=True)
    make_factor(person)
    found = Client()
    log_in(found, person)
    return found


def test_staff_see_it_and_take_it_with_them(browser: Client) -> None:
    make_node("one")

    page = browser.get(PAGE)
    files = {kind: browser.get(f"{PAGE}report.{kind}?since=24h") for kind in ("html", "csv", "json")}

    assert page.status_code == 200
    assert "one" in page.content.decode()
    assert "all times in UTC" in page.content.decode()
    for kind, answer in files.items():
        assert answer.status_code == 200
        assert answer["Content-Type"] == f"{report_files.FORMATS[kind]}; charset=utf-8"
        assert answer["Content-Disposition"].endswith(f'.{kind}"')
        assert b"one" in answer.content


def test_days_are_those_of_the_reader(browser: Client) -> None:
    User.objects.filter(username="ada").update(time_zone="Asia/Tokyo")

    text = browser.get(f"{PAGE}report.json?since=2026-05-01&until=2026-05-01").content
    page = browser.get(f"{PAGE}?since=2026-05-01&until=2026-05-01").content.decode()

    assert json.loads(text)["since"] == "2026-04-30T15:00:00Z"
    assert json.loads(text)["until"] == "2026-05-01T15:00:00Z"
    assert "all times in Asia/Tokyo" in page


@pytest.mark.parametrize(("since", "until"), [pair for pair in BAD if pair[0]])
def test_the_page_tells_what_is_no_period(browser: Client, since: str, until: str) -> None:
    if since == "2027-01-01":
        since = "2999-01-01"
    query = {"since": since, "until": until}

    answer = browser.get(PAGE, query)

    assert answer.status_code == 400
    assert 'role="alert"' in answer.content.decode()
    assert "<script>" not in answer.content.decode()
    assert browser.get(f"{PAGE}report.csv", query).status_code == 404


def test_others_do_not_see_it(browser: Client) -> None:
    customer = Client()
    log_in(customer, make_user("eve"))

    for address in (PAGE, f"{PAGE}report.csv"):
        assert customer.get(address).status_code == 404
        assert Client().get(address).status_code == 302
    assert browser.get(f"{PAGE}report.exe").status_code == 404
    assert browser.post(PAGE).status_code == 405


@pytest.mark.parametrize(
    ("share", "read", "said"),
    [
        (1.0, 1.0, "100 %"),
        (0.5, 0.9, "50 %"),
        (1.0, 0.899, "100 % of the 89.9 % that was read"),
        (1.0, 0.5, "100 % of the 50 % that was read"),
        (1.0, 0.499, "–"),
        (None, 0.0, "–"),
    ],
)
def test_availability_of_few_readings_is_not_said_of_the_whole_time(
    share: float | None, read: float, said: str
) -> None:
    make_node("one")
    found = report()
    nodes = [replace(found.nodes[0], available=share, read=read)]

    [first, *_] = report_tables.headlines(replace(found, nodes=nodes))

    assert (first.name, first.figure) == ("Nodes available", said)
