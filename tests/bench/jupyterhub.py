"""What others need for the same, for the table.

JupyterHub with DockerSpawner and Docker Swarm were measured once, on the same engine and with the same image, as
ratios to a bare `docker run` of that run; they are printed as what they are, figures of another day.
"""

from tests.bench.ground import Ground
from tests.bench.table import Outcome, Row

ORIGIN = "measured earlier"
FIGURES = (
    ("JupyterHub 6.1 with DockerSpawner 14, one at a time", 1.2),
    ("JupyterHub, a burst", 2.1),
    ("Docker Swarm service, one at a time", 4.0),
)


def measure(_: Ground) -> Outcome:
    return Outcome(
        "jupyterhub",
        [Row(f"{what}; bare docker run ({ORIGIN})", ratio, "×") for what, ratio in FIGURES],
        [
            "not measured here: figures of an earlier day on two cores with Docker 20.10 and the same image; the burst",
            "was 20 at once, where every Docker call of the hub goes through one thread",
        ],
    )
