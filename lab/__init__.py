"""A data centre on one machine: Berth's demo and the test bed of its code. Imports nothing of the rest of Berth."""

from .info import GatewayInfo, LabInfo, NodeInfo, StorageInfo
from .lab import Lab
from .process import CommandFailed, LabError
from .status import LabStatus, MachineStatus

__all__ = [
    "CommandFailed",
    "GatewayInfo",
    "Lab",
    "LabError",
    "LabInfo",
    "LabStatus",
    "MachineStatus",
    "NodeInfo",
    "StorageInfo",
]
