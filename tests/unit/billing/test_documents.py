"""The PDF of an invoice: all that is on its page, made once, by a process that reaches nothing."""

import hashlib
import re
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.template.loader import render_to_string

from billing import documents, invoices, payments, typesetting
from billing.models import BillingAccount, Invoice, InvoiceDocument, LedgerEntry
from billing.typesetting import CannotTypeset, Later
from tests.unit.billing.mail_server import mail_server
from tests.unit.billing.served import make_account, serve

pytestmark = pytest.mark.django_db
ISSUED = datetime(2026, 6, 1, 1, tzinfo=UTC)
NAMES = ["website", "build 🚀", "دفتر الحسابات", "חשבון", "测试服务器", "<b>bold</b> & co", "x" * 60]


def shown(pdf: bytes, *, first: int = 1, last: int = 999) -> str:
    """The text of some pages, as a reader would copy it."""
    argv = ["pdftotext", "-layout", "-f", str(first), "-l", str(last), "-", "-"]
    return subprocess.run(argv, input=pdf, capture_output=True, check=True, timeout=30).stdout.decode()


def facts(pdf: bytes, tmp_path: Path) -> dict[str, str]:
    file = tmp_path / "invoice.pdf"
    file.write_bytes(pdf)
    out = subprocess.run(["pdfinfo", str(file)], capture_output=True, check=True, timeout=30, text=True).stdout
    return {name: value.strip() for name, _, value in (line.partition(":") for line in out.splitlines())}


def unpacked(pdf: bytes) -> bytes:
    """All of its streams."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    return b"".join(zlib.decompressobj().decompress(stream) for stream in streams if stream[:1] == b"x")


def make_invoice(names: list[str], **values: Any) -> Invoice:
    account = make_account(**values)
    for day, name in enumerate(names):
        start = datetime(2026, 5, 1, 10, tzinfo=UTC) + timedelta(hours=4 * day)
        serve(account.workspace, (start, start + timedelta(hours=2.5)), name=name)
    invoice = invoices.issue(account.pk, date(2026, 5, 1), ISSUED)
    assert invoice is not None
    return invoice


def test_the_pdf_has_all_that_the_invoice_has(settings: Any, tmp_path: Path) -> None:
    settings.BERTH_SELLER = "Example Ltd\n1 Harbour Street"
    settings.BERTH_TAX_LABEL, settings.BERTH_TAX_PERCENT = "VAT", Decimal("7.7")
    settings.BERTH_INVOICE_NOTE = "IBAN XX00 1234"
    invoice = make_invoice(
        ["website", "builder"], recipient="Acme", address="2 Quay\nTown", tax_number="XX1", time_zone="Europe/Berlin"
    )

    pdf = documents.render(invoice)

    text = shown(pdf)
    words = [
        "Invoice", invoice.number, "Example Ltd", "1 Harbour Street", "Bill to", "Acme", "2 Quay", "Town", "Tax number",
        "XX1", "1 Jun 2026", "May 2026", "15 Jun 2026", "website", "builder", "3 started hours (2:30:00 served), nginx",
        "1 May 2026, 12:00 – 14:30", "1.50", "Net", "3.00 USD", "VAT 7.7 %", "0.23 USD", "Total", "3.23 USD",
        "Please pay by 15 Jun 2026", "IBAN XX00 1234", "Times are in Europe/Berlin.", "Page 1 of 1",
    ]  # fmt: skip
    assert [word for word in words if word not in text.replace("\N{NO-BREAK SPACE}", " ")] == []
    about = facts(pdf, tmp_path)
    assert (about["Title"], about["Author"], about["Tagged"]) == (f"Invoice {invoice.number}", "Example Ltd", "yes")
    assert about["Page size"] == "595.276 x 841.89 pts (A4)"
    assert about["CreationDate"].startswith("Mon Jun  1 01:00:00 2026")
    assert b"/Lang (en)" in unpacked(pdf)


def test_every_name_can_be_read(settings: Any) -> None:
    text = shown(documents.render(make_invoice(NAMES)))

    for name in ["website", "build 🚀", "测试服务器", "<b>bold</b> & co"]:
        assert name in text
    for name in ["الحسابات", "חשבון"]:
        assert name in text or name[::-1] in text  # in the order of the eye
    assert text.count("x") >= 60


def test_a_long_invoice_has_its_heads_on_every_page_and_no_line_is_lost() -> None:
    invoice = make_invoice([f"job {n}" for n in range(60)])

    pdf = documents.render(invoice)

    whole = shown(pdf)
    pages = int(re.findall(r"Page \d+ of (\d+)", whole)[0])
    assert pages >= 3
    for page in range(1, pages + 1):
        text = shown(pdf, first=page, last=page)
        assert f"Page {page} of {pages}" in text
        assert ("What was served" in text) or page == pages
    assert [n for n in range(60) if f"job {n} (#" not in whole] == []
    assert "90.00 USD" in whole.replace("\N{NO-BREAK SPACE}", " ")


def test_a_credit_note_says_so() -> None:
    first = make_invoice(["website"])
    entry = LedgerEntry.objects.get(kind="charge")
    payments.correct(entry=entry, amount=Decimal("1.00"), reason="It was slow", by="x", now=ISSUED)
    note = invoices.issue(first.workspace_id, date(2026, 6, 1), datetime(2026, 7, 1, tzinfo=UTC))
    assert note is not None

    text = shown(documents.render(note))

    assert "Credit note" in text
    assert "Credit to" in text
    assert "It was slow" in text
    assert "\N{MINUS SIGN}1.00" in text
    assert "Please pay" not in text
    assert "Due" not in text


def test_what_is_paid_is_not_in_the_pdf() -> None:
    """It would be another document a day later."""
    invoice = make_invoice(["website"])
    before = render_to_string("_partials/invoice_body.html", documents.body_context(invoice))
    payments.grant_credit(workspace=invoice.workspace, amount=Decimal(1), reason="x", by="x", now=ISSUED)
    BillingAccount.objects.update(recipient="Somebody else")

    after = render_to_string("_partials/invoice_body.html", documents.body_context(Invoice.objects.get()))

    assert before == after


def test_it_is_made_once_and_kept() -> None:
    invoice = make_invoice(["website"])

    first = documents.pdf_of(invoice)

    kept = InvoiceDocument.objects.get(invoice=invoice)
    assert bytes(kept.pdf or b"") == first
    assert kept.sha256 == hashlib.sha256(first).hexdigest()
    typesetting.end()
    assert documents.pdf_of(invoice) == first
    assert typesetting._child is None  # nothing was made a second time


def test_who_waited_for_it_to_be_made_gets_what_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found again once it is their turn, and not made a second time."""
    invoice = make_invoice(["website"])
    turn = typesetting.turn

    @contextmanager
    def others_first(wait_s: float | None = None) -> Iterator[None]:
        InvoiceDocument.objects.filter(invoice=invoice).update(pdf=b"%PDF of another")
        with turn(wait_s):
            yield

    monkeypatch.setattr(typesetting, "turn", others_first)
    monkeypatch.setattr(documents, "render", lambda *_: pytest.fail("made twice"))

    assert documents.pdf_of(invoice) == b"%PDF of another"


def test_a_long_one_is_asked_for_anew_when_no_round_would_make_it(monkeypatch: pytest.MonkeyPatch) -> None:
    invoice = make_invoice(["one", "two"])
    monkeypatch.setattr(documents, "MOST_LINES_AT_ONCE", 1)
    rows = InvoiceDocument.objects.filter(invoice=invoice)
    rows.update(try_at=None, attempts=12, problem="given up")

    with pytest.raises(Later, match="has 2 lines"):
        documents.pdf_at_once(invoice, ISSUED)

    assert list(rows.values_list("try_at", "attempts", "problem")) == [(ISSUED, 0, "")]
    monkeypatch.undo()
    assert documents.pdf_at_once(invoice, ISSUED).startswith(b"%PDF")


# ---- the process --------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("socket_enabled")
def test_nothing_is_fetched_from_the_network_or_the_disk(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("canary")
    with mail_server() as server:
        pdf = typesetting.pdf(
            f'<link rel="stylesheet" href="http://127.0.0.1:{server.port}/a.css">'
            f'<link rel="attachment" href="{secret.as_uri()}"><img src="{secret.as_uri()}" alt="missing">'
            f"<style>@import url(http://127.0.0.1:{server.port}/b);"
            f' p {{ background: url("{secret.as_uri()}") }}</style>'
            f'<p>text</p><iframe src="{secret.as_uri()}"></iframe>'
        )
        assert server.connections == 0

    assert "text" in shown(pdf)
    file = tmp_path / "out.pdf"
    file.write_bytes(pdf)
    attached = subprocess.run(["pdfdetach", "-list", str(file)], capture_output=True, check=True, timeout=30, text=True)
    assert attached.stdout.startswith("0 embedded files")


def test_the_process_knows_no_secret_and_the_libraries_are_not_in_ours() -> None:
    typesetting.pdf("<p>text</p>")

    assert typesetting._child is not None
    environment = Path(f"/proc/{typesetting._child.pid}/environ").read_bytes()
    assert environment
    assert b"SECRET_KEY" not in environment
    assert django_settings.SECRET_KEY.encode() not in environment
    assert "weasyprint" not in sys.modules


@pytest.fixture
def _ended() -> Iterator[None]:
    typesetting.end()
    yield
    typesetting.end()


@pytest.mark.usefixtures("_ended")
def test_a_process_that_takes_too_long_is_ended_and_the_next_pdf_has_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(typesetting, "LIMIT_S", 0.001)
    with pytest.raises(CannotTypeset, match="ended or took over"):
        typesetting.pdf("<p>text</p>" * 2000)
    monkeypatch.undo()

    assert typesetting.pdf("<p>text</p>").startswith(b"%PDF")


def test_who_cannot_wait_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    invoice = make_invoice(["website"])
    monkeypatch.setattr(documents, "PATIENCE_S", 0.05)
    at_work, done = threading.Event(), threading.Event()

    def work() -> None:
        with typesetting.turn():
            at_work.set()
            done.wait(30)

    other = threading.Thread(target=work)
    other.start()
    try:
        assert at_work.wait(10)
        with pytest.raises(Later, match="Other documents are being made; try again"):
            documents.pdf_at_once(invoice, ISSUED)
    finally:
        done.set()
        other.join(10)

    assert documents.pdf_at_once(invoice, ISSUED).startswith(b"%PDF")


def test_a_long_document_has_more_time() -> None:
    """3,000 lines took 50 s, 9,000 took 118 s, on two busy cores."""
    line = render_to_string(
        "_partials/invoice_body.html", documents.body_context(make_invoice([f"job {n}" for n in range(20)]))
    )

    assert typesetting.limit_s("") == typesetting.LIMIT_S == 120
    assert typesetting.limit_s(line * (3000 // 20)) > 180
    assert typesetting.limit_s(line * (9000 // 20)) > 300


@pytest.mark.usefixtures("_ended")
def test_a_process_that_was_killed_is_replaced() -> None:
    typesetting.pdf("<p>text</p>")
    assert typesetting._child is not None
    typesetting._child.kill()
    typesetting._child.wait(10)

    assert typesetting.pdf("<p>text</p>").startswith(b"%PDF")


@pytest.mark.usefixtures("_ended")
def test_a_process_that_died_while_it_was_written_to_is_ended_all_the_same() -> None:
    child = typesetting._running()
    assert child.stdin is not None
    child.stdin.write(b"half a document")  # waits in the pipe's buffer
    child.kill()
    child.wait(10)

    typesetting.end()

    assert child.stdin.closed
    assert typesetting.pdf("<p>text</p>").startswith(b"%PDF")


@pytest.mark.usefixtures("_ended")
def test_it_ends_when_nobody_wants_a_pdf() -> None:
    typesetting.pdf("<p>text</p>")
    child = typesetting._child
    assert child is not None
    assert typesetting._idle is not None
    assert typesetting._idle.interval == typesetting.IDLE_S

    typesetting._end_idle()

    assert child.poll() is not None
    assert typesetting._child is None
