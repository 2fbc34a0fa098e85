"""Write images straight into the directory that a docker-registry serves, so that nothing needs to be pushed.

The layout is the file system driver's of the distribution project (docker-registry); the formats are Docker's image
manifest version 2, schema 2, and its image configuration.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@dataclass(frozen=True)
class Layer:
    """A compressed tar archive that is in the registry: its digest and size, and the digest of the plain archive."""

    digest: str
    size: int
    plain_digest: str


class RegistryFiles:
    """The storage directory of a registry that is not running (or does not mind new files appearing)."""

    def __init__(self, root: Path) -> None:
        self.root = root / "docker/registry/v2"

    def add_layer(self, compressed: Path, plain_digest: str) -> Layer:
        """Move a compressed archive in."""
        with open(compressed, "rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        size = compressed.stat().st_size
        target = self._blob(digest)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(compressed, target)
        return Layer(digest, size, plain_digest)

    def add_image(self, repository: str, tag: str, image: dict[str, Any], layers: list[Layer]) -> str:
        """Tag an image made of these layers and this configuration; returns the manifest's digest."""
        image = image | {"rootfs": {"type": "layers", "diff_ids": [layer.plain_digest for layer in layers]}}
        config = json.dumps(image).encode()
        config_digest = self._add_bytes(config)
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "size": len(config), "digest": config_digest},
            "layers": [{"mediaType": _LAYER, "size": layer.size, "digest": layer.digest} for layer in layers],
        }
        digest = self._add_bytes(json.dumps(manifest, indent=1).encode())
        home = self.root / "repositories" / repository
        for blob in (config_digest, *(layer.digest for layer in layers)):
            _link(home / "_layers" / blob.replace(":", "/"), blob)
        _link(home / "_manifests/revisions" / digest.replace(":", "/"), digest)
        _link(home / "_manifests/tags" / tag / "index" / digest.replace(":", "/"), digest)
        _link(home / "_manifests/tags" / tag / "current", digest)
        return digest

    def _add_bytes(self, content: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        path = self._blob(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return digest

    def _blob(self, digest: str) -> Path:
        value = digest.removeprefix("sha256:")
        return self.root / "blobs/sha256" / value[:2] / value / "data"


def _link(directory: Path, digest: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "link").write_text(digest)
