"""manage.py record_payment, grant_credit, set_rate, set_discount, set_credit_limit."""

from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts.models import AuditEntry, Workspace
from billing import payments
from billing.models import Discount, Invoice, Payment, Rate
from tests.factories import HOUR, make_user, workspace_of
from tests.unit.billing.bills import make_invoice
from tests.unit.billing.test_payments import written

pytestmark = pytest.mark.django_db
COMMANDS = ["record_payment", "grant_credit", "set_rate", "set_discount", "set_credit_limit"]


@pytest.fixture
def workspace() -> Workspace:
    return workspace_of(make_user("alice"))


@pytest.fixture
def invoice(workspace: Workspace) -> Invoice:
    return make_invoice(workspace, "10.00", timezone.now() - HOUR)


def run(*argv: str) -> str:
    out = StringIO()
    call_command(*argv, stdout=out)
    return out.getvalue()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_tells_what_it_does(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        call_command(name, "--help")

    assert ended.value.code == 0
    assert len(capsys.readouterr().out.split()) > 50


def test_a_payment_is_recorded(invoice: Invoice) -> None:
    told = run("record_payment", invoice.number, "4.00", "--reference", "SEPA 1")

    assert told == f"Recorded. 6.00 USD of {invoice} are open.\n"
    assert Payment.objects.get().method == "bank"
    assert AuditEntry.objects.get(action="payment.record").actor_name == "manage.py record_payment"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["INV-1", "4.00", "--reference", "x"], "There is no invoice 'INV-1'"),
        (["{}", "four", "--reference", "x"], "'four' is not a number"),
        (["{}", "NaN", "--reference", "x"], "'NaN' is not a number"),
        (["{}", "10.01", "--reference", "x"], "Only 10.00 USD of"),
        (["{}", "0", "--reference", "x"], "more than zero"),
        (["{}", "4.00", "--reference", " "], "Say the reference"),
        (["{}", "4.00"], "required: --reference"),
        (["{}", "4.00", "--reference", "x", "--method", "shells"], "invalid choice"),
        (["{}", "4.00", "--reference", "x", "--received", "31.5.2026"], "is not a day such as"),
        (["{}", "4.00", "--reference", "x", "--received", "9999-01-01"], "is in the future"),
        (["{}", "4.00", "--reference", "x", "--currency", "EUR"], "is in USD, not in EUR"),
    ],
)
def test_a_payment_that_cannot_be_is_told(invoice: Invoice, argv: list[str], sentence: str) -> None:
    before = written()

    with pytest.raises(CommandError, match=sentence):
        run("record_payment", *(part.format(invoice.number) for part in argv))

    assert written() == before


def test_credit_is_granted_once(workspace: Workspace) -> None:
    told = run("grant_credit", "Alice", "5.00", "--reason", "Prepaid", "--once", "may")

    assert told == "Granted. 5.00 USD of alice's credit are not used yet.\n"
    with pytest.raises(CommandError, match="entered already"):
        run("grant_credit", f"#{workspace.pk}", "5.00", "--reason", "Prepaid", "--once", "may")
    assert payments.available_credit(workspace.pk) == Decimal("5.00")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["bob", "5", "--reason", "x"], "There is no workspace 'bob'"),
        (["#0", "5", "--reason", "x"], "There is no workspace '#0'"),
        (["#x", "5", "--reason", "x"], "There is no workspace '#x'"),
        (["alice", "5", "--reason", ""], "Say why"),
        (["alice", "5"], "required: --reason"),
        (["alice", "-5", "--reason", "x"], "more than zero"),
    ],
)
def test_credit_that_cannot_be_is_told(workspace: Workspace, argv: list[str], sentence: str) -> None:
    before = written()

    with pytest.raises(CommandError, match=sentence):
        run("grant_credit", *argv)

    assert written() == before


def test_of_several_workspaces_of_one_name_the_number_is_asked(workspace: Workspace) -> None:
    other = Workspace.objects.create(name="alice")

    with pytest.raises(CommandError, match=f"#{workspace.pk}, #{other.pk}|#{other.pk}, #{workspace.pk}"):
        run("grant_credit", "alice", "5", "--reason", "x")


def test_a_rate_holds_from_now_on_and_the_one_before_ends() -> None:
    run("set_rate", "0.40")
    with pytest.raises(CommandError, match="Another rate holds at that time already"):
        run("set_rate", "0.30")

    told = run("set_rate", "0.30", "--per-gib-hour", "0.01", "--rounding", "second", "--end-current")

    old, new = Rate.objects.order_by("pk")
    assert old.during.upper == new.during.lower
    assert AuditEntry.objects.filter(action="rate.end", target=f"rate:{old.pk}").count() == 1
    assert (new.per_core_hour, new.per_gib_hour, new.rounding) == (Decimal("0.30"), Decimal("0.01"), "second")
    assert told.startswith(f"Rate {new.pk}: 0.30 USD per core and hour, from ")


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["-1"], "per_core_hour: .*greater than or equal to 0"),
        (["10001"], "per_core_hour: .*less than or equal to 10000"),
        (["0.4", "--per-gib-hour", "-1"], "per_gib_hour"),
        (["0.4", "--from", "2020-01-01"], "cannot begin in the past"),
        (["0.4", "--until", "2020-01-01"], "end must be after the start"),
        (["0.4", "--from", "soon"], "is neither a day such as"),
        (["0.4", "--workspace", "nobody"], "There is no workspace"),
    ],
)
def test_a_rate_that_cannot_be_is_told_and_the_one_before_stays(argv: list[str], sentence: str) -> None:
    run("set_rate", "0.40")

    with pytest.raises(CommandError, match=sentence):
        run("set_rate", *argv, "--end-current")

    assert Rate.objects.get().during.upper is None


def test_a_day_begins_in_the_installation_s_zone(settings: object) -> None:
    settings.BERTH_BILLING_TIME_ZONE = "Europe/Berlin"  # type: ignore[attr-defined]

    run("set_rate", "0.40", "--from", "2130-06-01")

    assert Rate.objects.get().during.lower.isoformat() == "2130-05-31T22:00:00+00:00"


def test_a_discount_is_set_or_told_why_not(workspace: Workspace) -> None:
    run("set_discount", "alice", "15", "--reason", "Non-profit")

    assert Discount.objects.get().percent == 15
    for argv, sentence in [
        (["alice", "10", "--reason", "x"], "Another discount holds"),
        (["alice", "0", "--reason", "x"], "0.01"),
        (["alice", "101", "--reason", "x"], "100"),
        (["alice", "5", "--reason", " "], "Say the reason"),
    ]:
        with pytest.raises(CommandError, match=sentence):
            run("set_discount", *argv)
    assert Discount.objects.count() == 1
    run("set_discount", "alice", "10", "--reason", "x", "--end-current")
    assert [row.during.upper is None for row in Discount.objects.order_by("pk")] == [False, True]


@pytest.mark.parametrize(("text", "limit"), [("200", Decimal(200)), ("0", Decimal(0)), ("none", None)])
def test_a_credit_limit_is_set(workspace: Workspace, text: str, limit: Decimal | None) -> None:
    run("set_credit_limit", "alice", text)

    workspace.refresh_from_db()
    assert workspace.billing_account.credit_limit == limit


@pytest.mark.parametrize("text", ["-1", "much", "1000000000"])
def test_a_credit_limit_that_cannot_be_is_told(workspace: Workspace, text: str) -> None:
    with pytest.raises(CommandError):
        run("set_credit_limit", "alice", text)
