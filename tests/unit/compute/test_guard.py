"""What the guard's answer means, what is sent to a node, and what its shell programs make of dates and networks."""

import shutil
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from compute import guard
from compute.guard import judge
from compute.shell import Host, SshOptions
from tests.factories import NOW

VERSION = guard.version(["10.99.0.0/24"])
HEALTHY = f"now 1000.50\nversion {VERSION}\noffset 0\nbeat 4\n"


@pytest.fixture
def here(tmp_path: Path) -> Host:
    return Host("", SshOptions(None, None, tmp_path))


@pytest.fixture
def shell(tmp_path: Path) -> Path:
    """guard.sh in a folder of its own, which does nothing but define its functions."""
    home = tmp_path / "guard"
    shutil.copytree(guard.FILES, home)
    text = (home / "guard.sh").read_text()
    assert text.endswith('main "$@"\n')
    (home / "guard.sh").write_text(text.removesuffix('main "$@"\n'))
    return home


def call(home: Path, script: str) -> str:
    """The output of shell code after guard.sh was read."""
    env = {"BERTH_GUARD_HOME": str(home), "BERTH_GUARD_RUN": str(home), "BERTH_GUARD_LEASES": str(home / "leases")}
    (home / "leases").mkdir(exist_ok=True)
    argv = ["sh", "-c", f'. "$BERTH_GUARD_HOME/guard.sh"\n{script}']
    return subprocess.run(argv, env=env, check=True, capture_output=True, text=True, timeout=20).stdout


# ---- what a node says of itself ----------------------------------------------------------------------------


def test_a_healthy_guard_has_no_problems() -> None:
    report = judge(HEALTHY, VERSION, 1000.0, 1001.0)

    assert (report.problems, report.needs_install, report.skew_s) == ((), False, 0.0)


@pytest.mark.parametrize(
    ("answer", "problem", "install"),
    [
        (HEALTHY.replace(VERSION, "old"), "its guard is not the present version", True),
        (HEALTHY.replace("beat 4\n", ""), "its timer has not run since the machine was started", True),
        (HEALTHY.replace("beat 4", "beat 61"), "its timer does not run: the last sign of life is 61 s old", True),
        (f"{HEALTHY}problem its firewall lacks rules", "its firewall lacks rules", True),
        (f"{HEALTHY}problem it has no ip6tables", "it has no ip6tables", False),
        (HEALTHY.replace("1000.50", "1600.50"), "its clock is 600 s ahead of the portal's", False),
        (HEALTHY.replace("1000.50", "400.50"), "its clock is 600 s behind the portal's", False),
    ],
)
def test_each_thing_that_is_wrong_is_said_and_mended_if_it_can_be(answer: str, problem: str, install: bool) -> None:
    report = judge(answer, VERSION, 1000.0, 1001.0)

    assert (report.problems, report.needs_install) == ((problem,), install)


def test_a_slow_answer_makes_no_clock_wrong() -> None:
    """Asked at 1000 and answered at 1014, it may have looked at its clock at any moment between."""
    assert judge(HEALTHY.replace("1000.50", "1013.00"), VERSION, 1000.0, 1014.0).problems == ()


# ---- what is sent ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "../x", "-rf", "a b", "a/b", "a\nb", "a;b", "$(x)", "a" * 129])
def test_only_a_containers_name_becomes_a_file_name(name: str, here: Host) -> None:
    with pytest.raises(ValueError, match="cannot be the name of a container"):
        guard.write_lease(here, name, NOW)


def test_a_lease_carries_how_long_is_left() -> None:
    script = guard.lease_script("berth-1-1-main", NOW + timedelta(hours=2), NOW)

    assert "+ 7200)" in script
    assert f"{guard.LEASES}/berth-1-1-main" in script
    assert "+ -60)" in guard.lease_script("berth-1-1-main", NOW - timedelta(minutes=1), NOW)


@pytest.mark.parametrize("network", ["", "10.0.0.0/8; reboot", "$(reboot)", "fe80::/10", "-A"])
def test_only_a_network_gets_into_the_configuration(network: str) -> None:
    with pytest.raises(ValueError, match="is not an IPv4 network"):
        guard.install_script([network])


def test_the_version_changes_with_what_is_installed() -> None:
    assert len({guard.version(), guard.version(["10.0.0.0/24"]), guard.version(["10.0.1.0/24"])}) == 3


def test_what_is_sent_is_what_the_node_counts_as_its_version(shell: Path) -> None:
    script = guard.install_script(["10.99.0.0/24"])
    for name in ("guard.sh", "firewall.sh", "install.sh"):
        text = (guard.FILES / name).read_text()
        assert text in script
        assert subprocess.run(["sh", "-n"], input=text, text=True, check=False, timeout=10).returncode == 0
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False, timeout=10).returncode == 0


# ---- the programs on the node ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "moment",
    [
        NOW,
        NOW.replace(microsecond=123456),
        datetime(2026, 3, 29, 3, 0, tzinfo=timezone(timedelta(hours=2))),
        datetime(2026, 10, 25, 2, 30, tzinfo=timezone(timedelta(hours=-9, minutes=-30))),
    ],
)
def test_the_node_reads_what_python_writes(shell: Path, moment: datetime) -> None:
    assert call(shell, f"seconds_of {moment.isoformat()}").strip() == str(int(moment.timestamp()))


@pytest.mark.parametrize(
    "label", ["", "tomorrow", "now", "1", "2026-05-04", "2026-05-04T10:00:00", "2026-13-04T10:00:00Z", "@1", "-d x"]
)
def test_what_is_no_time_with_a_zone_is_none(shell: Path, label: str) -> None:
    assert call(shell, f"seconds_of '{label}' || :") == ""


@pytest.mark.parametrize("lease", ["", "soon", "-1", "1e9", "0x10", "010", "123456789012", "1; reboot", "1 boot x"])
def test_what_cannot_be_read_ends_nothing(shell: Path, lease: str) -> None:
    (shell / "leases").mkdir()
    (shell / "leases/c").write_text(lease)
    label = (datetime.now(UTC) - timedelta(days=1)).isoformat()

    assert call(shell, f"is_over c {label} 2>/dev/null && echo over || echo left") == "left\n"


def test_a_lease_comes_before_the_label(shell: Path) -> None:
    past, later = datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + timedelta(days=1)
    ask = "is_over c {} && echo over || echo left"

    assert call(shell, ask.format(past.isoformat())) == "over\n"
    assert call(shell, ask.format(later.isoformat())) == "left\n"
    (shell / "leases/c").write_text(f"{int(later.timestamp())}\n")
    assert call(shell, ask.format(past.isoformat())) == "left\n"
    (shell / "leases/c").write_text(f"{int(past.timestamp())}\n")
    assert call(shell, ask.format(later.isoformat())) == "over\n"


def test_the_rules_name_every_private_network_and_the_operators_own(shell: Path) -> None:
    rules = call(shell, "blocked='198.51.100.0/24' allow_dns='10.0.0.53'; rules 4 'bi+ bx+ br-0123456789ab'")
    lines = rules.splitlines()
    out = [line.removeprefix("-A BERTH-OUT ") for line in lines if line.startswith("-A BERTH-OUT ")]

    for bridge in ("bi+", "bx+", "br-0123456789ab"):
        assert f"-A BERTH-INPUT -i {bridge} -j BERTH-SELF" in lines
        assert f"-A BERTH-ROOM -i {bridge} -j BERTH-OUT" in lines
        assert f"-o {bridge} -j DROP" in out
    for network in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "198.51.100.0/24"):
        assert f"-d {network} -j DROP" in out
    assert out[0].endswith("--ctdir REPLY -j RETURN"), "what answers passes before all else"
    assert out.index("-i bx+ -j DROP") < out.index("-d 10.0.0.53 -p udp -m udp --dport 53 -j RETURN")
    assert out.index("-d 10.0.0.53 -p udp -m udp --dport 53 -j RETURN") < out.index("-d 10.0.0.0/8 -j DROP")


def test_nothing_of_ipv6_passes(shell: Path) -> None:
    lines = call(shell, "rules 6 'bi+ bx+'").splitlines()

    assert {"-A BERTH-SELF -j DROP", "-A BERTH-OUT -j DROP", "-A BERTH-ROOM -o bi+ -j DROP"} <= set(lines)
    assert not [line for line in lines if "RETURN" in line or "ACCEPT" in line]
