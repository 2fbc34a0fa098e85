"""Promise 9: what is not Berth's stays as it was. A stranger's container on each node, and the gateway's rules."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from lab import Lab

NAME = "stranger"
_PUT = f"""
docker inspect {NAME} >/dev/null 2>&1 && exit
tar -C /usr -cf - bin/busybox | docker import - {NAME}:1 >/dev/null
docker run -d --name {NAME} --network none --memory 16m {NAME}:1 /bin/busybox sleep 86400 >/dev/null
"""


@dataclass(frozen=True)
class Foreign:
    """What was there of others when it was looked at."""

    rules: frozenset[str]
    containers: dict[str, str]

    @classmethod
    def put(cls, lab: Lab) -> "Foreign":
        """See that there is a stranger on each node; what is there from now on must stay."""
        for node in lab.info.nodes:
            lab.exec(node.name, ["sh", "-c", _PUT])
        return cls.seen(lab)

    @classmethod
    def seen(cls, lab: Lab) -> "Foreign":
        return cls(rules(lab), {node.name: _stranger(lab, node.name) for node in lab.info.nodes})

    @staticmethod
    def remove(lab: Lab) -> None:
        for node in lab.info.nodes:
            lab.exec(node.name, ["sh", "-c", f"docker rm -f {NAME}; docker rmi {NAME}:1"], check=False)

    def violations(self, lab: Lab) -> Iterator[str]:
        now = Foreign.seen(lab)
        for line in sorted(self.rules ^ now.rules):
            yield f"9: a rule of others is {'new' if line in now.rules else 'gone'}: {line}"
        for node, text in self.containers.items():
            if now.containers[node] != text:
                yield f"9: the stranger on {node} is not what it was: {now.containers[node]}"


def rules(lab: Lab) -> frozenset[str]:
    """The gateway's rules and policies without Berth's own chains and the jumps to them."""
    saved = lab.exec("gateway", ["sh", "-c", "iptables-save -t nat; iptables-save -t filter"]).stdout.splitlines()
    kept = (line.partition(" [")[0] for line in saved if line.startswith(("-A", ":")))
    return frozenset(line for line in kept if "BERTH-" not in line)


def _stranger(lab: Lab, node: str) -> str:
    """What identifies it: not whether it runs, since an engine that is killed takes its containers with it."""
    found = lab.exec(node, ["docker", "inspect", NAME], check=False)
    if found.returncode:
        return "absent"
    [row] = json.loads(found.stdout)
    return json.dumps([row["Id"], row["Image"], row["Config"], row["HostConfig"]], sort_keys=True)
