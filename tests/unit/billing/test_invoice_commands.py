"""manage.py issue_invoices and mail_invoices, as an operator sees them."""

import json
from datetime import date, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from billing import mailing, months
from billing.models import BillingAccount, Invoice, InvoiceDocument
from tests.factories import make_user
from tests.unit.billing.served import make_account, serve

pytestmark = pytest.mark.django_db
Out = pytest.CaptureFixture[str]


def month_before(count: int) -> date:
    month = timezone.now().date().replace(day=1)
    for _ in range(count):
        month = months.previous(month)
    return month


@pytest.fixture
def account() -> BillingAccount:
    """It has used something in each of the two months before this one."""
    account = make_account(make_user("ada"))
    for count in (2, 1):
        start = datetime.combine(
            month_before(count).replace(day=3), datetime.min.time(), timezone.get_current_timezone()
        )
        serve(account.workspace, (start, start + timedelta(hours=count)))
    return account


def test_a_dry_run_prints_what_would_be_issued(account: BillingAccount, capsys: Out) -> None:
    call_command("issue_invoices", dry_run=True)

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["WORKSPACE", "MONTH", "INVOICE", "LINES", "TOTAL"]
    assert lines[1].split() == ["ada", f"{month_before(2):%Y-%m}", "1", "1.00", "USD"]
    assert lines[3] == "2 invoices would be issued."
    assert not Invoice.objects.exists()


def test_running_it_twice_issues_nothing_twice(account: BillingAccount, capsys: Out) -> None:
    call_command("issue_invoices")
    first = capsys.readouterr().out
    call_command("issue_invoices")

    numbers = list(Invoice.objects.order_by("position").values_list("number", flat=True))
    assert [line.split()[2] for line in first.splitlines()[1:3]] == numbers
    assert capsys.readouterr().out == "0 invoices issued.\n"


def test_a_month_means_up_to_it(account: BillingAccount, capsys: Out) -> None:
    make_account(make_user("eve"))
    call_command("issue_invoices", month=f"{month_before(2):%Y-%m}", workspace="ada", as_json=True)

    (row,) = json.loads(capsys.readouterr().out)
    assert (row["workspace"], row["month"], row["total"]) == ("ada", f"{month_before(2):%Y-%m}", "1.00 USD")
    assert Invoice.objects.count() == 1


@pytest.mark.parametrize("month", ["2026-5", "May", "2026-13", "0000-01", "2026-05-01"])
def test_what_is_no_month_is_refused(month: str, account: BillingAccount) -> None:
    with pytest.raises(CommandError, match="is not a month"):
        call_command("issue_invoices", month=month)


def test_a_month_that_is_not_over_is_refused(account: BillingAccount) -> None:
    for month in (timezone.now().date(), date(2099, 1, 1)):
        with pytest.raises(CommandError, match="is not over yet"):
            call_command("issue_invoices", month=f"{month:%Y-%m}")
    assert not Invoice.objects.exists()


def test_a_workspace_that_is_not_there_is_refused(account: BillingAccount) -> None:
    with pytest.raises(CommandError, match="no workspace 'nobody'"):
        call_command("issue_invoices", workspace="nobody")


def test_one_that_cannot_be_issued_is_named_and_the_others_are_issued(account: BillingAccount, capsys: Out) -> None:
    other = make_account(make_user("eve"))
    start = datetime.combine(month_before(1), datetime.min.time(), timezone.get_current_timezone())
    spoilt = serve(other.workspace, (start, start + timedelta(hours=1)))
    type(spoilt).objects.filter(pk=spoilt.pk).update(terms={"nonsense": 1})

    with pytest.raises(SystemExit):
        call_command("issue_invoices")

    out = capsys.readouterr().out
    assert "eve" in out
    assert "KeyError" in out
    assert Invoice.objects.count() == 2


def test_what_is_given_up_is_listed_and_can_be_mailed_again(account: BillingAccount, capsys: Out) -> None:
    call_command("issue_invoices", month=f"{month_before(2):%Y-%m}")
    capsys.readouterr()
    call_command("mail_invoices")
    assert "tried again at" in capsys.readouterr().out
    InvoiceDocument.objects.update(try_at=None, problem=mailing.NOBODY)

    with pytest.raises(SystemExit):
        call_command("mail_invoices")
    assert "given up  Nobody to send it to" in capsys.readouterr().out
    call_command("mail_invoices", again=[Invoice.objects.get().number])

    assert InvoiceDocument.objects.get().try_at is not None
    with pytest.raises(CommandError, match="There is no invoice X"):
        call_command("mail_invoices", again=["X"])


def test_when_all_are_mailed_it_says_so(capsys: Out) -> None:
    call_command("mail_invoices")

    assert capsys.readouterr().out == "Every invoice was mailed.\n"
