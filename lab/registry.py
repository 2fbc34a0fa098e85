"""Image registries: the private one of the lab, and the stand-in for one like Docker Hub."""

from __future__ import annotations

from pathlib import Path

from .machines import REGISTRY_PORT, MachineSpec, Plan
from .state import write_file

_CONFIG = """\
version: 0.1
log:
  level: warn
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: /var/lib/registry
  delete:
    enabled: true
http:
  addr: {address}:{port}
"""


def write_config(etc: Path, spec: MachineSpec, plan: Plan) -> None:
    """Put into the machine's own /etc what its registry needs."""
    text = _CONFIG.format(address=plan.listen_address(spec), port=REGISTRY_PORT)
    write_file(etc / "berth/registry.yml", text)
