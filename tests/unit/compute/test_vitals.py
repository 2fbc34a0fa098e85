"""What a machine tells of itself."""

import subprocess
from pathlib import Path

import pytest

from compute import vitals
from compute.readings import Vitals, per_second
from compute.shell import Host, SshOptions

ID_1, ID_2 = "a1" * 32, "b2" * 32
SAID = f"""MemTotal:        8000000 kB
MemAvailable:    4096000 kB
loadavg 0.52 0.58 0.59 1/467 12345
uptime 350735.47 234388.90
cores 4
cpu  100 20 30 5000 600 7 8 900 0 0
disk volumes 1024-blocks Available
disk volumes 2048000 1024000
disk images 1024-blocks Available
disk images 4096000 512
/sys/fs/cgroup/memory/docker/{ID_1}/memory.oom_control:oom_kill 2
/sys/fs/cgroup/system.slice/docker-{ID_2}.scope/memory.events:oom_kill 31
/sys/fs/cgroup/memory/system.slice/ssh.service/memory.oom_control:oom_kill 5
"""


def test_everything_is_read() -> None:
    assert vitals.parse(SAID) == Vitals(
        memory_total_mib=7812,
        memory_free_mib=4000,
        load_1=0.52,
        load_5=0.58,
        load_15=0.59,
        cores=4,
        cpu_s=1.65,  # neither idle, nor waiting for a disk, nor what the machine's own host took
        uptime_s=350_735,
        volumes_size_mib=2000,
        volumes_free_mib=1000,
        images_size_mib=4000,
        images_free_mib=0,
        oom_kills={ID_1: 2, ID_2: 31},
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "sh: not found",
        "MemTotal: many kB\nMemAvailable:\nloadavg 1 2\nuptime soon\ncores\ncpu 1 2\ndisk volumes\ncpu a b c d e f g",
        "cores 0",
        "loadavg nan inf 1 1/1 1\nuptime inf 1\nMemTotal: 99999999999999999999 kB\nMemAvailable: 999999999999999 kB",
        "cores -4",
        "cores ²",
        f"/sys/fs/cgroup/docker/{ID_1}/memory.events:oom_kill many",
    ],
)
def test_what_makes_no_sense_tells_nothing(text: str) -> None:
    assert vitals.parse(text) == Vitals()


def test_a_line_that_is_broken_leaves_the_others() -> None:
    said = vitals.parse(SAID.replace("cores 4", "cores"))

    assert said.cores is None
    assert said.cpu_s == 1.65


def test_the_script_tells_of_this_machine() -> None:
    said = vitals.parse(subprocess.run(["sh", "-s"], input=vitals.SCRIPT, text=True, stdout=-1, check=True).stdout)

    assert (said.memory_total_mib or 0) > (said.memory_free_mib or 0) > 0
    assert (said.cores or 0) > 0
    assert (said.cpu_s or 0) > 0
    assert None not in (said.load_1, said.load_15, said.uptime_s)


def test_a_machine_without_an_answer_tells_nothing(tmp_path: Path) -> None:
    nobody = Host("-nobody", SshOptions(None, None, tmp_path))

    assert vitals.read(nobody) == Vitals()


@pytest.mark.parametrize(
    ("before", "after", "seconds", "restarted", "rate"),
    [
        (10, 25, 15, False, 1.0),
        (10, 10, 15, False, 0.0),
        (None, 25, 15, False, None),
        (10, None, 15, False, None),
        (10, 25, 0, False, None),
        (10, 25, -15, False, None),
        (25, 10, 15, False, None),
        (25, 30, 15, True, 2.0),
        (None, 30, 15, True, 2.0),
        (25, None, 15, True, None),
    ],
)
def test_a_rate_is_what_was_added(
    before: float | None, after: float | None, seconds: float, restarted: bool, rate: float | None
) -> None:
    assert per_second(before, after, seconds, restarted=restarted) == rate
