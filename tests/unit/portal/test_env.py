"""Each bad setting stops the start with its sentence."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from portal import env
from portal.env import BadSetting


@pytest.mark.parametrize(
    ("value", "read", "sentence"),
    [
        ("", lambda: env.text("X"), "The setting X is not set"),
        ("   ", lambda: env.text("X"), "The setting X is not set"),
        ("perhaps", lambda: env.flag("X"), "must be 1 or 0, not 'perhaps'"),
        ("many", lambda: env.whole("X", 1, 0, 9), "must be a whole number, not 'many'"),
        ("1.5", lambda: env.whole("X", 1, 0, 9), "must be a whole number, not '1.5'"),
        ("10", lambda: env.whole("X", 1, 0, 9), "must be between 0 and 9, not 10"),
        ("-1", lambda: env.whole("X", 1, 0, 9), "must be between 0 and 9, not -1"),
        ("free", lambda: env.money("X", "1"), "must be an amount such as 0.50, not 'free'"),
        ("-1", lambda: env.money("X", "1"), "must be between 0 and 10000, not '-1'"),
        ("NaN", lambda: env.money("X", "1"), "must be between 0 and 10000, not 'NaN'"),
        ("Infinity", lambda: env.money("X", "1"), "must be between 0 and 10000"),
        ("blue", lambda: env.choice("X", "red", ("red", "green")), "must be one of red, green, not 'blue'"),
    ],
)
def test_a_bad_value_stops_the_start_with_a_sentence(
    value: str, read: Callable[[], object], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X", value)

    with pytest.raises(BadSetting) as stopped:
        read()

    assert sentence in str(stopped.value)
    assert str(stopped.value).endswith("docs/settings.md lists every setting.")


@pytest.mark.parametrize(
    ("value", "read", "wanted"),
    [
        ("Yes", lambda: env.flag("X"), True),
        ("off", lambda: env.flag("X", True), False),
        ("7", lambda: env.whole("X", 1, 0, 9), 7),
        ("GREEN", lambda: env.choice("X", "red", ("red", "green")), "green"),
        (" a, ,b ", lambda: env.words("X"), ["a", "b"]),
        ("", lambda: env.whole("X", 3, 0, 9), 3),
        ("", lambda: env.path("X"), None),
        ("/etc/x", lambda: env.path("X"), Path("/etc/x")),
        ("var/x", lambda: env.path("X"), env.ROOT / "var/x"),
    ],
)
def test_a_good_value_is_read(
    value: str, read: Callable[[], object], wanted: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X", value)

    assert read() == wanted


def test_the_file_of_the_environment_overrides_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# a comment\nBERTH_X1=from the file\nBERTH_X2 = also\nnonsense\n")
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("BERTH_ENV_FILE", str(file))
    monkeypatch.setenv("BERTH_X1", "from the caller")
    monkeypatch.setenv("BERTH_X2", "")
    monkeypatch.delenv("BERTH_X2")

    env.load_env_file()

    assert (os.environ["BERTH_X1"], os.environ["BERTH_X2"]) == ("from the caller", "also")


def test_a_file_that_was_named_and_is_missing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("BERTH_ENV_FILE", "/nowhere/env")

    with pytest.raises(BadSetting, match="names /nowhere/env, which does not exist"):
        env.load_env_file()


@pytest.mark.parametrize(
    "address", ["https://bob:s3cret@hooks.example.org/", "https://hooks.example.org/s3cret\x7f", "ftp://s3cret.example"]
)
def test_an_address_of_a_webhook_that_is_none_stops_the_start_and_is_not_repeated(address: str) -> None:
    argv = [sys.executable, "-c", "import portal.settings"]
    wanted = os.environ | {"BERTH_ALERT_WEBHOOK": address}
    done = subprocess.run(argv, cwd=env.ROOT, env=wanted, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "The setting BERTH_ALERT_WEBHOOK must be an http(s) address" in done.stderr
    assert "s3cret" not in done.stderr
