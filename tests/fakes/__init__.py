"""Stand-ins for machines. tests/contract runs one suite against each of them and against the real thing."""

from tests.fakes.engine import FakeEngine
from tests.fakes.gateway import FakeGateway

__all__ = ["FakeEngine", "FakeGateway"]
