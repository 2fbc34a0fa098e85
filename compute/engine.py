"""What Berth needs of a container engine, and what each call promises.

Every call is idempotent: what is already there is adopted, what is already gone is success. Three answers come
from a machine: present, absent, unknown. An engine that cannot be asked raises NoAnswer, and `observe` and
`list_ours` never turn that into "absent".

What is adopted is only what carries the spec's own `berth.key`: a container, network or volume entry of the same
name with another key, or with none, belongs to somebody else, and is refused and left as it is.
"""

from collections.abc import Callable
from typing import Protocol

from compute.log_lines import Log
from compute.readings import Details, Listing, Usage
from compute.shell import NoAnswer
from compute.spec import ContainerSpec, EngineInfo, ImageSeen, Observed, Writes

__all__ = ["ContainerEngine", "EngineRefused", "ImageMissing", "NoAnswer", "PortTaken", "Progress", "RegistrySilent"]

READING_TIMEOUT_S = 3.0  # of one reading, which may be left out
PROBE_TIMEOUT_S = 3.0  # a living engine says who it is within milliseconds, even one under load

Progress = Callable[[int, int], None]
"""Called while an image is pulled with (bytes done, bytes in all as known so far)."""


class EngineRefused(Exception):
    """The engine understood and said no; the same again will not help."""


class ImageMissing(EngineRefused):
    """The registry does not have this image."""


class RegistrySilent(NoAnswer):
    """The node answers, but the registry that it should pull from does not: the node is not to blame."""


class PortTaken(EngineRefused):
    """Something else on the node uses a port that the container should get."""


class ContainerEngine(Protocol):
    """A node's engine. Every method may raise NoAnswer (unknown) and, where it changes things, EngineRefused."""

    def info(self, timeout_s: float = PROBE_TIMEOUT_S) -> EngineInfo:
        """The engine's version and its machine's size, or NoAnswer within about `timeout_s`."""

    def has_image(self, image: str) -> bool:
        """Whether the image (by digest) is on the node already."""

    def digest(self, image: str) -> str | None:
        """The digest by which `image` (repository:tag) can be pulled; None when nobody has it.

        An image of this name that is on the node already counts, so that no registry need be reached for it.
        """

    def pull(self, image: str, progress: Progress) -> None:
        """Fetch the image from the registry; already there is success. Raises ImageMissing."""

    def make_network(self, spec: ContainerSpec) -> None:
        """A bridge of its own, named `spec.network`, with the spec's labels; there already is success.

        Raises EngineRefused when the one of this name has another key.
        """

    def create(self, spec: ContainerSpec) -> None:
        """Create the container without starting it; its network may be missing still. There already is success.

        Raises ImageMissing; EngineRefused, for a container or volume entry of this name with another key too.
        """

    def start(self, spec: ContainerSpec) -> Observed:
        """Start the container on its network, with its volume and ports, creating it if it is not there.

        One by the same name that does not run is started again. Raises PortTaken, ImageMissing, EngineRefused.
        """

    def stop(self, name: str, grace_s: int) -> None:
        """Ask it to end, kill it after `grace_s`; stopped or absent already is success."""

    def observe(self, name: str) -> Observed:
        """What is known of the container: ABSENT only if the engine said so."""

    def remove(self, name: str, key: str = "") -> None:
        """Stop at once and remove container, network and the engine's volume entry of that name.

        Absent already is success. It returns only when the engine confirmed that all three are gone. With a `key`, a
        container that carries another one is not ours: all of that name is left as it is, and that is success too.
        """

    def writes(self, name: str) -> Writes:
        """Where the container writes on the node, to be measured there."""

    def written_mib(self) -> dict[str, int]:
        """What each container with the label berth.reservation wrote on its own layer, as the engine measures it.

        That takes the engine long: for nodes of which Berth has nothing but the engine.
        """

    def list_ours(self) -> list[Observed]:
        """Every container with the label berth.reservation, whole or not at all."""

    def list_traces(self) -> set[str]:
        """The names of all containers, networks and volume entries with the label berth.reservation.

        `remove` of such a name removes all three.
        """

    def list_states(self) -> Listing:
        """Every container with the label berth.reservation and how it is, in one quick call.

        NoAnswer when the list cannot be read at all; when a line of it cannot, the listing is not `complete`.
        """

    def details(self, engine_id: str) -> Details | None:
        """What an inspect tells; None when the engine says that there is no such container."""

    def usage(self, engine_id: str) -> Usage | None:
        """What the container uses at the moment; None when it does not run, or is not there."""

    def logs(self, name: str, *, tail: int, since_ns: int | None = None) -> Log | None:
        """The last `tail` lines that the container wrote, whether or not it runs; None when it is not there.

        With `since_ns` (nanoseconds since 1970) only those that were written after it. At most log_lines.MOST_LINES
        and MOST_BYTES, the oldest left out first; each line is harmless text, and one longer than 16 KiB counts for
        several. Asking changes nothing.
        """

    def list_images(self) -> list[ImageSeen]:
        """Every image on the node with all its names, whole or not at all."""

    def forget_image(self, reference: str) -> None:
        """Take this name of an image (by digest) off the node, and the image with it when that was its last name.

        Not there is success. Raises EngineRefused while a container of whoever's, running or not, stands on it.
        """
