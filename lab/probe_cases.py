"""What is tried from inside a container, and what must come of it. Values only; see probe.py and docs/room.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .info import LabInfo
from .machines import ENGINE_PORT, REGISTRY_PORT

BLOCKED = frozenset({"blocked"})
REFUSED = frozenset({"refused"})
OPEN = frozenset({"open"})
CLOSED_TO = frozenset({"blocked", "refused", "absent"})
#: From linux/capability.h.
BITS = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "NET_BIND_SERVICE": 10,
    "SYS_CHROOT": 18,
    "AUDIT_WRITE": 29,
}
#: Who may go out to the internet.
ONLINE = {"shell"}
#: Who has a user besides root that a customer logs in as.
WITH_USER = {"shell"}


class Place(NamedTuple):
    host: str
    port: int


@dataclass(frozen=True)
class Case:
    """One try: `kind` and `arguments` are for probe.pl. `control` names the machine that can do it ("": this one)."""

    group: str
    what: str
    kind: str
    arguments: tuple[str | int, ...]
    expected: frozenset[str]
    who: str = "root"
    control: str | None = None


@dataclass(frozen=True)
class Room:
    """A container of a running reservation, and its addresses: inside, on its node, and to the outside."""

    service: str
    number: int
    node: str
    container: str
    inside: Place
    on_node: Place
    public: Place
    bridge: str
    ram_mib: int
    read_only: bool
    capabilities: tuple[str, ...]


def cases_of(room: Room, neighbours: Sequence[Room], info: LabInfo, portal_port: int) -> list[Case]:
    """All that is tried at once in this room. Something listens on `portal_port` of the portal's private address."""
    return [
        *_tenants(room, neighbours),
        *_machines(room, info, portal_port),
        *_wire(),
        *_kernel(room),
        *_files(room),
        *_privileges(room),
    ]


def limits_of(room: Room) -> list[Case]:
    """What is tried one after the other, since it takes all there is."""
    return [
        Case("limits", "processes without end", "fork", (4000,), frozenset({"limited"})),
        Case("limits", "open files without end", "files", (20_000,), frozenset({"limited"})),
        Case("limits", f"{4 * room.ram_mib} MiB of memory", "memory", (4 * room.ram_mib,), frozenset({"killed"})),
    ]


def _tenants(room: Room, neighbours: Sequence[Room]) -> list[Case]:
    group, cases = "other tenants", []
    own = Case(group, "its own service (it can say yes)", "tcp", ("127.0.0.1", room.inside.port), OPEN)
    for other in neighbours:
        where = "on this node" if other.node == room.node else "on another node"
        cases += [
            Case(group, f"container {where}, its own address", "tcp", other.inside, BLOCKED, control=other.node),
            Case(group, f"container {where}, its node's port", "tcp", other.on_node, BLOCKED, control=""),
        ]
        may = OPEN if room.service in ONLINE else BLOCKED
        cases.append(Case(group, f"container {where}, its public port", "tcp", other.public, may, control="outside"))
    return [own, *cases]


def _machines(room: Room, info: LabInfo, portal_port: int) -> list[Case]:
    group = "machines"
    targets = [(f"{node.name}: {what}", node.address, port) for node in info.nodes for what, port in _NODE_PORTS]
    targets += [
        ("storage server: sshd", info.storage.address, 22),
        ("gateway: sshd, private address", info.gateway.private_address, 22),
        ("registry, where nodes pull and the portal writes", *_split(info.registry.address)),
        ("portal: what listens on its private address", info.management_address, portal_port),
    ]
    unheard = [
        *((f"{node.name}: engine without TLS", node.address, 2375) for node in info.nodes),
        ("its own node: sshd, address of the bridge", room.bridge, 22),
        ("its own node: engine, address of the bridge", room.bridge, ENGINE_PORT),
        ("portal: PostgreSQL", info.management_address, 5432),
        ("portal: Redis", info.management_address, 6379),
        ("portal: sshd", info.management_address, 22),
        ("cloud metadata", "169.254.169.254", 80),
        ("gateway: sshd, public address", info.gateway.public_address, 22),
    ]
    may = OPEN if room.service in ONLINE else BLOCKED
    return [
        *(Case(group, what, "tcp", (host, port), BLOCKED, control="") for what, host, port in targets),
        *(Case(group, what, "tcp", (host, port), BLOCKED | _may_close(what)) for what, host, port in unheard),
        Case(group, "the internet", "tcp", _split(info.upstream.address), may, control="outside"),
        Case(group, "names by DNS, at the gateway", "dns", (info.gateway.private_address,), BLOCKED),
    ]


_NODE_PORTS = (("sshd", 22), ("engine", ENGINE_PORT))


def _may_close(what: str) -> frozenset[str]:
    """The gateway's public address belongs to the internet: that it answers "nobody listens" is no way in."""
    return frozenset({"closed"} if what.startswith("gateway: sshd, public") else ())


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.partition(":")
    return host, int(port or REGISTRY_PORT)


def _wire() -> list[Case]:
    group = "the wire"
    return [
        Case(group, "raw frames (AF_PACKET): ARP, sniffing", "socket", (17, 3, 0x0300), REFUSED),
        Case(group, "cooked frames (AF_PACKET)", "socket", (17, 2, 0x0300), REFUSED),
        Case(group, "raw IP packets", "socket", (2, 3, 255), REFUSED),
        Case(group, "raw ICMP", "socket", (2, 3, 1), REFUSED),
        Case(group, "raw ICMPv6: neighbours, routers", "socket", (10, 3, 58), REFUSED),
        Case(group, "IPv6 addresses on its interfaces", "addresses6", (), frozenset({"none"})),
        Case(group, "all nodes of the link (ff02::1)", "tcp6", ("ff02::1%eth0", 22), BLOCKED),
        Case(group, "a link-local neighbour (fe80::1)", "tcp6", ("fe80::1%eth0", 22), BLOCKED),
    ]


def _kernel(room: Room) -> list[Case]:
    group = "the kernel"
    calls: dict[str, tuple[str | int, ...]] = {
        "mount a file system": ("mount", "none", "/mnt", "tmpfs", 0, 0),
        "mount the host's disk": ("mount", "/dev/vda", "/mnt", "ext4", 0, 0),
        "a user namespace": ("unshare", 0x10000000),
        "a mount namespace": ("unshare", 0x20000),
        "a network namespace": ("unshare", 0x40000000),
        "another namespace (setns)": ("setns", 0, 0),
        "another root (pivot_root)": ("pivot_root", "/", "/mnt"),
        "a file by handle (open_by_handle_at)": ("open_by_handle_at", -100, "x", 0),
        "keys of the kernel (keyctl)": ("keyctl", 0, -3, 0),
        "keys of the kernel (add_key)": ("add_key", "user", "x", "y", 1, -3),
        "bpf": ("bpf", 0, 0, 0),
        "perf_event_open": ("perf_event_open", 0, 0, -1, -1, 0),
        "userfaultfd": ("userfaultfd", 0),
        "a kernel module": ("init_module", 0, 0, "x"),
        "another kernel (kexec)": ("kexec_load", 0, 0, 0, 0),
        "reboot": ("reboot", 0xFEE1DEAD - 2**32, 672274793, 0x89ABCDEF - 2**32, 0),
        "the clock": ("settimeofday", 0, 0),
        "swap": ("swapon", "/swap", 0),
    }
    cases = [Case(group, what, "syscall", arguments, REFUSED) for what, arguments in calls.items()]
    if "SYS_CHROOT" not in room.capabilities:
        cases.append(Case(group, "chroot", "syscall", ("chroot", "/tmp"), REFUSED))  # noqa: S108 - in the container
    if room.service in WITH_USER:
        trace = ("ptrace", 16, 1, 0, 0)  # PTRACE_ATTACH
        cases.append(Case(group, "trace root's process", "syscall", trace, REFUSED, who="user"))
    folder = "/run" if room.read_only else "/"
    return [
        *cases,
        Case(group, "the host's disk by mknod (8:0)", "mknod", (f"{folder}/probe-disk", 0x800), REFUSED),
        Case(group, "the host's memory by mknod (1:1)", "mknod", (f"{folder}/probe-memory", 0x101), REFUSED),
        Case(group, "processes of others", "processes", (80,), frozenset({"own"})),
    ]


def _files(room: Room) -> list[Case]:
    group = "files"
    writes = {
        "/proc/sys/kernel/core_pattern": "|/probe",
        "/proc/sys/net/ipv6/conf/all/disable_ipv6": "0",
        "/proc/sys/vm/drop_caches": "1",
        "/proc/sysrq-trigger": "h",
        "/sys/kernel/uevent_helper": "/probe",
        "/sys/fs/cgroup/devices/devices.allow": "a",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": "-1",
        "/sys/fs/cgroup/memory.max": "max",
    }
    sockets = ["/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/var/lib/docker"]
    own = CLOSED_TO if room.read_only else frozenset({"done"})
    return [
        *(Case(group, f"write {path}", "write", (path, text), CLOSED_TO) for path, text in writes.items()),
        *(Case(group, f"{path} is not there", "there", (path,), frozenset({"absent"})) for path in sockets),
        Case(group, "read /proc/kcore", "read", ("/proc/kcore",), frozenset({"empty", "refused", "absent"})),
        Case(group, "read /proc/keys", "read", ("/proc/keys",), frozenset({"empty", "refused"})),
        Case(group, "devices", "devices", (), frozenset({"usual"})),
        Case(group, "write on its root file system", "create", ("/probe-root",), own),
    ]


def _privileges(room: Room) -> list[Case]:
    group = "privileges"
    bits = tuple(BITS[name] for name in room.capabilities)
    whose = ["root", "user"] if room.service in WITH_USER else ["root"]
    cases = [
        Case(group, "capabilities beyond the service's own", "capabilities", bits, frozenset({"few"})),
        *(Case(group, "no new privileges", "status", ("NoNewPrivs",), frozenset({"1"}), who=who) for who in whose),
        *(
            Case(group, "system calls filtered (seccomp)", "status", ("Seccomp",), frozenset({"2"}), who=w)
            for w in whose
        ),
    ]
    if room.service in WITH_USER:
        cases.append(Case(group, "a set-user-id program", "setuid", ("/probe-id",), REFUSED, who="user"))
        cases.append(Case(group, "sudo", "setuid", ("sudo -n id",), frozenset({"absent", "refused"}), who="user"))
    return cases
