"""The processes of script/server: their environment, configuration, and how they are recognised."""

import configparser
import json
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dj_database_url
import pytest

from lab.process import ProcessId
from lab.stack import changes, databases, environment, programs
from lab.stack.errors import StackError
from lab.stack.layout import Layout
from lab.stack.stack import Stack
from lab.stack.tree import Tree, make_directories, remove_run

LAB = {
    "registry": {"address": "10.99.3.31:5000"},
    "keys": {"ssh_key": "", "known_hosts": "var/lab/x/portal/known_hosts", "tls_dir": "/etc/berth/tls"},
}


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A stack in a checkout of its own, with this user's rights."""
    monkeypatch.setattr("lab.stack.tree.own", lambda path, layout: None)
    repo = tmp_path / "repo"
    repo.mkdir()
    return Layout("x", repo=repo, as_root=True, run_root=tmp_path / "run")


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is not ours to kill."""
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait(timeout=10)


def compose(layout: Layout, **caller: str) -> dict[str, str]:
    return environment.compose(
        layout, port=8123, live_port=9123, lab=None, previous=environment.read(layout), caller=caller
    )


def record(layout: Layout, pid: int, started: int) -> None:
    layout.run.mkdir(parents=True)
    note = {"pid": str(pid), "started": str(started), "repo": str(layout.repo)}
    layout.record.write_text(json.dumps(note))


# ---- the environment --------------------------------------------------------------------------------------


def test_the_secret_key_survives_a_second_start(layout: Layout) -> None:
    layout.var.mkdir(parents=True)
    first = compose(layout)
    layout.env_file.write_text(environment.render(first))

    assert len(first["SECRET_KEY"]) >= 50
    assert compose(layout) == first


def test_the_database_is_reached_over_the_private_socket(layout: Layout) -> None:
    database = dj_database_url.parse(compose(layout)["DATABASE_URL"])

    assert (database["HOST"], database["NAME"], database["USER"]) == (
        str(layout.postgres_sockets),
        "berth",
        "berth",
    )


def test_the_callers_variables_win_but_its_secrets_and_switches_stay_out(layout: Layout) -> None:
    env = compose(
        layout,
        REDIS_URL="redis://cache.example.org/0",
        BERTH_EMAIL_VERIFICATION="mandatory",
        BERTH_ADMIN_PASSWORD="hunter22",
        BERTH_STACK="other",
        HOME="/root",
    )

    assert env["REDIS_URL"] == "redis://cache.example.org/0"
    assert env["BERTH_EMAIL_VERIFICATION"] == "mandatory"
    assert not {"BERTH_ADMIN_PASSWORD", "BERTH_STACK", "HOME"} & env.keys()


def test_the_worker_can_be_killed_by_a_file_only_where_that_is_wanted(layout: Layout) -> None:
    armed = environment.compose(layout, port=1, live_port=2, lab=None, previous={}, fail_points=True, caller={})

    assert "BERTH_FAIL_DIR" not in compose(layout)
    assert layout.repo / armed["BERTH_FAIL_DIR"] == layout.fail_points


def test_a_value_of_two_lines_is_refused(layout: Layout) -> None:
    with pytest.raises(StackError, match="BERTH_MAIL_FROM must be one line"):
        compose(layout, BERTH_MAIL_FROM="a\nSECRET_KEY=b")


def test_paths_in_the_checkout_are_relative_and_others_stay(layout: Layout) -> None:
    keys = {**LAB["keys"], "ssh_key": str(layout.repo / "var/lab/x/portal/ssh_key")}

    env = environment.compose(layout, port=1, live_port=2, lab={**LAB, "keys": keys}, previous={}, caller={})

    assert env["BERTH_SSH_KEY"] == "var/lab/x/portal/ssh_key"
    assert env["BERTH_SSH_KNOWN_HOSTS"] == "var/lab/x/portal/known_hosts"
    assert env["BERTH_TLS_DIR"] == "/etc/berth/tls"
    assert env["BERTH_REGISTRY"] == "10.99.3.31:5000"


def test_what_is_rendered_can_be_read_back(layout: Layout) -> None:
    env = {"A": "postgresql://x@%2Frun/y?a=b#c", "B": ""}

    assert environment.parse(environment.render(env)) == env


def test_a_lab_that_is_not_up_is_none_and_a_broken_description_is_an_error(layout: Layout) -> None:
    assert environment.load_lab(layout, "x") is None
    layout.lab_file("x").parent.mkdir(parents=True)
    layout.lab_file("x").write_text("{")

    with pytest.raises(StackError, match="bring the lab up again"):
        environment.load_lab(layout, "x")


# ---- what runs --------------------------------------------------------------------------------------------


def test_every_program_drops_roots_rights_and_waits_to_be_started(layout: Layout) -> None:
    lines = [programs.redis(layout), *programs.portal(layout, port=8123)]

    text = programs.supervisord_conf(layout, lines, prefix=Tree(layout).prefix())

    config = configparser.RawConfigParser()
    config.read_string(text)
    sections = [config[f"program:{name}"] for name in ("redis", *programs.PORTAL)]
    for section in sections:
        assert section["command"].startswith("setpriv --reuid=berth --regid=berth --clear-groups")
        assert section["autostart"] == "false"
        assert section["autorestart"] == "true"
    assert "--bind 127.0.0.1:8123" in config["program:web"]["command"]


def test_a_percent_sign_and_a_space_reach_the_program_unharmed(layout: Layout) -> None:
    odd = programs.Program("odd", ("echo", "100 %", "it's"), priority=1)

    text = programs.supervisord_conf(layout, [odd], prefix=["setpriv"])

    command = next(line for line in text.splitlines() if line.startswith("command="))
    assert shlex.split(command.removeprefix("command=") % ()) == ["setpriv", "echo", "100 %", "it's"]


def test_only_the_tests_database_risks_its_data(layout: Layout) -> None:
    careful = programs.postgres(layout, bindir=Path("/bin"), careless=False).argv
    careless = programs.postgres(layout, bindir=Path("/bin"), careless=True).argv

    assert "fsync=off" not in careful
    assert "fsync=off" in careless
    assert "synchronous_commit=off" not in careless  # what was committed outlives a killed PostgreSQL


def test_the_data_decides_which_postgresql_runs_and_new_data_takes_the_newest(layout: Layout, tmp_path: Path) -> None:
    for version in ("9", "15", "17"):
        (tmp_path / "pg" / version / "bin").mkdir(parents=True)
        (tmp_path / "pg" / version / "bin" / "postgres").touch()

    assert databases.bindir(layout, tmp_path / "pg").parent.name == "17"
    layout.postgres_data.mkdir(parents=True)
    (layout.postgres_data / "PG_VERSION").write_text("15\n")
    assert databases.bindir(layout, tmp_path / "pg").parent.name == "15"
    (layout.postgres_data / "PG_VERSION").write_text("13\n")
    with pytest.raises(StackError, match="made by PostgreSQL 13, which is not installed"):
        databases.bindir(layout, tmp_path / "pg")


@pytest.mark.parametrize("name", ["", "Demo", "../x", "a" * 16, "1a", "a b"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(StackError, match="is no name for a stack"):
        Layout(name)


def test_a_path_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="too long for Unix sockets"):
        Layout("x", repo=tmp_path / ("d" * 100), as_root=False)


# ---- the process tree -------------------------------------------------------------------------------------


def test_a_stale_pid_is_never_killed(layout: Layout, stranger: subprocess.Popen[bytes]) -> None:
    alive = ProcessId.of(stranger.pid)
    assert alive is not None
    record(layout, stranger.pid, alive.started - 1)
    tree = Tree(layout)

    tree.kill()
    tree.stop()

    assert tree.first is None
    assert stranger.poll() is None
    assert not layout.record.exists()


def test_the_recorded_process_is_killed(layout: Layout, stranger: subprocess.Popen[bytes]) -> None:
    alive = ProcessId.of(stranger.pid)
    assert alive is not None
    record(layout, stranger.pid, alive.started)

    Tree(layout).kill()

    assert not alive.alive()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "1"}'])
def test_a_broken_record_means_that_nothing_runs(layout: Layout, text: str) -> None:
    layout.run.mkdir(parents=True)
    layout.record.write_text(text)

    assert Tree(layout).first is None


def test_another_checkouts_stack_is_left_alone(
    layout: Layout, tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    alive = ProcessId.of(stranger.pid)
    assert alive is not None
    record(layout, stranger.pid, alive.started)
    (layout.repo / "script").mkdir()
    (tmp_path / "other").mkdir()
    other = Stack("x", layout=Layout("x", repo=tmp_path / "other", as_root=True, run_root=layout.run_root))

    with pytest.raises(StackError, match=f"a stack named x runs from {layout.repo}"):
        other.down()

    os.kill(stranger.pid, signal.SIG_DFL)


def test_the_checkout_is_never_removed_through_its_mount_point(layout: Layout) -> None:
    make_directories(layout)
    (layout.app / "manage.py").touch()  # as if the checkout were mounted here

    with pytest.raises(OSError, match="not empty"):
        remove_run(layout)

    assert (layout.app / "manage.py").exists()


def test_down_keeps_the_data_unless_it_is_purged(layout: Layout) -> None:
    make_directories(layout)
    layout.env_file.touch()
    (layout.log / "web.log").touch()
    stack = Stack("x", layout=layout)

    stack.down()
    assert layout.env_file.exists()
    assert not layout.run.exists()
    stack.down(purge=True)

    assert {path.name for path in layout.var.iterdir()} == {"lock", "log"}


# ---- a second start does only what is needed --------------------------------------------------------------


def test_a_stamp_stands_for_one_state_of_the_files(layout: Layout) -> None:
    file = layout.repo / "portal" / "settings.py"
    file.parent.mkdir()
    file.write_text("A = 1")
    stamp = changes.Stamp(layout.repo / "stamp")
    state = changes.digest(changes.code(layout.repo))
    assert not stamp.is_(state)

    stamp.set(state)

    assert stamp.is_(changes.digest(changes.code(layout.repo)))
    file.write_text("A = 10")
    assert not stamp.is_(changes.digest(changes.code(layout.repo)))
