"""The images of an engine, as the Docker Engine API tells of them; `docker_engine` calls this, and nobody else.

It is given the SDK's client and imports nothing of the SDK.
"""

from typing import Any, Protocol

from compute.spec import ImageSeen


class Client(Protocol):
    """What is needed of the SDK's low-level client."""

    def images(self, *, all: bool) -> list[dict[str, Any]]: ...  # noqa: A002 - the SDK's own name

    def containers(self, *, all: bool) -> list[dict[str, Any]]: ...  # noqa: A002


def seen(api: Client) -> list[ImageSeen]:
    """Every image with all its names, and whether a container of whoever's, running or not, stands on it."""
    rows = api.images(all=False)
    # Asked after the images: a container that is made in between is made of an image that is then called used.
    used = {str(row["ImageID"]) for row in api.containers(all=True)}
    return [
        ImageSeen(
            engine_id=str(row["Id"]),
            names=tuple(
                str(name)
                for name in [*(row["RepoTags"] or []), *(row["RepoDigests"] or [])]
                if not str(name).startswith("<none>")
            ),
            size_mib=int(row["Size"]) // 2**20,
            used=str(row["Id"]) in used,
        )
        for row in rows
    ]
