"""Log lines: one form for all, with the ids of what is being done, and no secret."""

import io
import json
import logging
import logging.config
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from django.test import Client
from structlog.contextvars import bound_contextvars

from accounts.models import ApiToken, User
from portal import logs
from portal.env import ROOT
from tests.factories import PASSWORD

Lines = Callable[[], list[str]]


def writer(form: str) -> tuple[logging.Logger, Lines]:
    """A logger that writes as the portal's processes do, and what it wrote."""
    wanted = logs.configuration(form, "INFO")["formatters"]["line"]
    formatter = logging.config.DictConfigurator({"version": 1}).configure_formatter(wanted)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.Logger("compute.health")
    logger.addHandler(handler)
    return logger, lambda: stream.getvalue().splitlines()


def test_in_json_a_line_is_one_object_with_the_ids_of_what_is_done() -> None:
    logger, lines = writer("json")

    with bound_contextvars(request_id="abcdefgh", reservation=17, node="two"):
        logger.warning("node %s is not in service: %s", "two", 'it\nsaid "no"')
    logger.info("later")

    first, second = map(json.loads, lines())
    assert first.pop("at").endswith("Z")
    assert first == {
        "level": "warning",
        "logger": "compute.health",
        "event": 'node two is not in service: it\nsaid "no"',
        "request_id": "abcdefgh",
        "reservation": 17,
        "node": "two",
    }
    assert list(second) == ["at", "level", "logger", "event"]


def test_in_json_a_traceback_is_in_its_line() -> None:
    logger, lines = writer("json")

    try:
        raise RuntimeError("the machine room burns")
    except RuntimeError:
        logger.exception("reservation %d: looking at it failed", 7)

    (line,) = lines()
    assert "RuntimeError: the machine room burns" in json.loads(line)["exception"]


def test_as_text_a_line_is_for_people() -> None:
    logger, lines = writer("text")

    with bound_contextvars(request_id="abcdefgh", reservation=17):
        logger.info("started")
    logger.info("later")

    assert lines()[0][23:] == " INFO compute.health: started [request_id=abcdefgh reservation=17]"
    assert lines()[1][23:] == " INFO compute.health: later"


@pytest.mark.parametrize(
    "evil",
    [
        pytest.param("a\n2026-11-21 07:00:00.000 ERROR forged: line", id="line break"),
        pytest.param("a\r\nb", id="carriage return"),
        pytest.param("\x1b[31mred\x1b[0m", id="escape sequence"),
        pytest.param("a\x00b\x85c\u2028d", id="other line ends"),
    ],
)
@pytest.mark.parametrize("form", logs.FORMATS)
def test_nobody_can_write_a_line_of_their_own(form: str, evil: str) -> None:
    logger, lines = writer(form)

    logger.info("Not Found: %s", evil)

    assert len(lines()) == 1
    assert "\x1b" not in lines()[0]


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: Bearer berth_abcdefghijklmnop0123456789", "abcdefghijklmnop0123456789"),
        ("token berth_Zm9vYmFyYmF6cXV4-_0123456789 was used", "Zm9vYmFyYmF6cXV4"),
        ("postgresql://berth:hunter22@db.internal/berth does not answer", "hunter22"),
        ("smtp://mailer:s3cr3t@mail.example.org:587", "s3cr3t"),
        ("Not Found: /accounts/password/reset/key/4-c8x7y2-abcdef0123456789/", "c8x7y2"),
        ("Gone: /accounts/confirm-email/MTI:1abcd:signature-of-it/", "1abcd"),
        ("Gone: /workspaces/join/Zm9vYmFyYmF6cXV4/", "Zm9vYmFyYmF6cXV4"),
        ("Not Found: /accounts/notifications/stop/WzEsIiJd:1abcd:signature-of-it/", "WzEsIiJd"),
        ("GET /live/events?ticket=NQ:1abcd:signature", "1abcd"),
        ("/accounts/sso/callback/?state=x&code=Zm9vYmFy is refused", "Zm9vYmFy"),
        ("{'password': 'correct horse', 'name': 'x'}", "correct horse"),
        ('{"client_secret": "pi_123_secret_456"}', "pi_123"),
        ("MYSQL_ROOT_PASSWORD=hunter22 was refused", "hunter22"),
        ("GET /x?token=hunter22&next=/", "hunter22"),
        ("Stripe said no to sk_live_51Habcdef", "51Habcdef"),
        ("the key whsec_abcdef0123 is wrong", "abcdef0123"),
        ("SECRET_KEY=hunter22", "hunter22"),
        ("DJANGO_SECRET_KEY: hunter22", "hunter22"),
        ("aws_secret_access_key = hunter22", "hunter22"),
        ("'private_key': 'hunter22'", "hunter22"),
        ("X-Api-Key: hunter22", "hunter22"),
        ("--password=hunter22", "hunter22"),
        ("amqps+tls://berth:hunter22@queue.internal", "hunter22"),
    ],
)
@pytest.mark.parametrize("form", logs.FORMATS)
def test_what_looks_like_a_secret_is_hidden_in_messages_and_tracebacks(form: str, text: str, secret: str) -> None:
    logger, lines = writer(form)

    try:
        raise ValueError(text)
    except ValueError:
        logger.exception("it failed: %s", text)

    written = "\n".join(lines())
    assert logs.HIDDEN in written
    assert secret not in written


def test_what_is_no_secret_is_told() -> None:
    sentences = (
        "the token of node two is renewed",
        "basic size",
        "password reset asked for",
        "berth-17-1-main started",
        "the access key: it is on the paper",
        "primary_key=17, sort-key: name",
    )

    assert [logs.without_secrets(sentence) for sentence in sentences] == list(sentences)


@pytest.mark.parametrize(
    "name",
    [
        *("a", "a-", "secret-", "secret_", "csrf", "csrf_", "token ", "secret=", 'token="', "password: "),
        *("a://", "a:", "a@", "bearer ", "basic.", "berth_", "berth_-", "sk_live", "/confirm-email/"),
    ],
)
def test_a_long_text_is_looked_through_at_once(name: str) -> None:
    text = name * (8400 // len(name))

    before = time.thread_time()
    logs.without_secrets(text)
    assert time.thread_time() - before < 0.05


# ---- what the portal writes -------------------------------------------------------------------------------


@pytest.fixture
def written() -> Iterator[Lines]:
    """All that is logged meanwhile at any level, as it would be written."""
    formatter = logging.config.DictConfigurator({"version": 1}).configure_formatter(
        logs.configuration("json", "DEBUG")["formatters"]["line"]
    )
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield lambda: stream.getvalue().splitlines()
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.mark.django_db
def test_a_request_has_one_line_without_what_was_asked(owner: User, written: Lines) -> None:
    Client().get("/accounts/login/?next=/x&token=hunter22", headers={"x-request-id": "client-00001"})

    (line,) = (row for row in map(json.loads, written()) if row["logger"] == "portal.requests")
    assert line["event"] == "GET /accounts/login/ 200"
    assert (line["route"], line["status"], line["request_id"]) == ("account_login", 200, "client-00001")
    assert 0 < line["duration_s"] < 60
    assert "hunter22" not in "\n".join(written())


@pytest.mark.django_db
def test_logging_in_asking_with_a_token_and_keys_of_mails_leave_no_secret(owner: User, written: Lines) -> None:
    secret = ApiToken.new_secret()
    browser = Client(headers={"authorization": f"Bearer {secret}", "cookie": "berth=cookie-of-mine"})
    browser.post("/accounts/login/", {"login": "ada", "password": PASSWORD})
    browser.post("/accounts/login/", {"login": "ada", "password": "not-my-word-77"})
    browser.get("/api/v1/reservations")
    browser.get("/accounts/password/reset/key/4-c8x7y2-abcdef0123456789/")
    browser.get("/accounts/confirm-email/MTI:1abcd:signature-of-it/")
    browser.get("/nothing/?password=hunter22")

    text = "\n".join(written())
    assert len(written()) > 6
    secrets = (secret, PASSWORD, "not-my-word-77", "cookie-of-mine", "abcdef0123456789", "signature-of-it", "hunter22")
    assert [one for one in secrets if one in text] == []


def run(code: str, **env: str) -> tuple[str, str]:
    """A process of the portal of its own: what it wrote to stdout and stderr."""
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, cwd=ROOT, env=os.environ | env, capture_output=True, text=True, check=False)
    return done.stdout, done.stderr


START = "import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'portal.settings'; import django; django.setup(); "


@pytest.mark.parametrize(
    ("env", "form"),
    [
        ({"BERTH_INSECURE_HTTP": "1"}, "text"),
        ({"BERTH_INSECURE_HTTP": "0"}, "json"),
        ({"BERTH_INSECURE_HTTP": "0", "BERTH_DEBUG": "1"}, "text"),
        ({"BERTH_INSECURE_HTTP": "0", "BERTH_LOG_FORMAT": "text"}, "text"),
        ({"BERTH_INSECURE_HTTP": "1", "BERTH_LOG_FORMAT": "json"}, "json"),
    ],
)
def test_the_form_is_text_on_one_machine_and_json_elsewhere(env: dict[str, str], form: str) -> None:
    _, err = run(START + "import logging; logging.getLogger('x').warning('said')", **env)

    (line,) = [line for line in err.splitlines() if "said" in line]
    assert (line[0] == "{") is (form == "json")


@pytest.mark.parametrize(("name", "value"), [("BERTH_LOG_FORMAT", "xml"), ("BERTH_LOG_LEVEL", "loud")])
def test_a_form_or_level_that_is_none_stops_the_start_by_name(name: str, value: str) -> None:
    _, err = run(START, **{name: value})

    assert f"The setting {name} must be one of" in err


def test_celery_logs_as_all_others_do() -> None:
    code = (
        "import portal; app = portal.celery_app; app.loader.init_worker(); "
        "app.log.setup('INFO', redirect_stdouts=True); "
        "import logging; logging.getLogger('celery.worker').warning('ready')"
    )
    _, err = run(code, BERTH_LOG_FORMAT="json", BERTH_INSECURE_HTTP="1")

    (line,) = err.splitlines()
    assert json.loads(line)["event"] == "ready"


def test_gunicorn_logs_as_all_others_do() -> None:
    code = (
        "from gunicorn.app.wsgiapp import WSGIApplication; import sys; "
        "sys.argv = ['gunicorn', 'portal.wsgi', '--config', 'python:portal.gunicorn_config']; "
        "app = WSGIApplication(); log = app.cfg.logger_class(app.cfg); "
        "log.info('Listening at: %s', 'x'); log.access_log.info('never doubled')"
    )
    _, err = run(code, BERTH_LOG_FORMAT="json")

    events = [json.loads(line) for line in err.splitlines()]
    assert [(row["logger"], row["event"]) for row in events] == [
        ("gunicorn.error", "Listening at: x"),
        ("gunicorn.access", "never doubled"),
    ]
