"""Copies images from an upstream registry into the private one, with skopeo, and records their digests.

Without a private registry there is nothing to copy: the digests are pinned, and nodes pull from upstream themselves.
"""

import json
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from datetime import datetime
from typing import Any

from django.conf import settings

from compute.engine import ContainerEngine, EngineRefused, NoAnswer
from reservations.models import Service, ServiceVersion

COPY_TIMEOUT_S = 1800
LOOK_TIMEOUT_S = 60


class CannotMirror(Exception):
    """The image could not be copied; the message says why."""


Imaged = Service | ServiceVersion  # what has an image of its own


def mirror(service: Imaged, upstream: str, *, insecure_upstream: bool, now: datetime) -> bool:
    """Bring the image of a service or of one of its versions into the private registry; whether anything changed.

    The digest that is recorded is the private registry's own, so that nodes pull exactly what was copied.
    """
    if not settings.BERTH_REGISTRY:
        raise CannotMirror(
            "No private registry is set: BERTH_REGISTRY must name one as host:port. Where nodes may pull from"
            " upstream themselves, --pin-only does without."
        )
    source = f"docker://{upstream}/{service.image}"
    target = f"docker://{settings.BERTH_REGISTRY}/{service.image}"
    wanted = _digest(source, insecure=insecure_upstream)
    if wanted is None:
        raise CannotMirror(f"{upstream} does not have {service.image}.")
    there = _digest(target, insecure=True)
    if there is not None and there == service.digest and wanted == service.upstream_digest:
        return False
    verify = "false" if insecure_upstream else "true"
    # One architecture: that of this machine, which is what the nodes are taken to have. So the digest may differ
    # from upstream's, which can be that of a list of architectures.
    _skopeo(
        ["copy", "--quiet", f"--src-tls-verify={verify}", "--dest-tls-verify=false", source, target], COPY_TIMEOUT_S
    )
    there = _digest(target, insecure=True)
    if there is None:
        raise CannotMirror(f"{settings.BERTH_REGISTRY} does not have {service.image} after copying it.")
    _note(service, digest=there, upstream_digest=wanted, mirrored_at=now)
    return True


def ask(engine: ContainerEngine, images: Iterable[str]) -> dict[str, Future[str | None]]:
    """Their digests as the engine knows or finds them, asked side by side: a registry that is silent costs once."""
    with ThreadPoolExecutor(max_workers=16) as pool:
        return {image: pool.submit(copy_context().run, engine.digest, image) for image in images}


def pin(service: Imaged, answer: Future[str | None], *, now: datetime) -> bool:
    """Record the digest that `ask` found, for nodes to pull from upstream; whether anything changed."""
    try:
        digest = answer.result()
    except (NoAnswer, EngineRefused) as problem:
        raise CannotMirror(str(problem)) from problem
    if digest is None:
        raise CannotMirror(
            f"Upstream does not have {service.image}, and the node does not have it from a registry"
            " (what was built or loaded there by hand has no digest to pull by)."
        )
    if service.digest == service.upstream_digest == digest:
        return False
    _note(service, digest=digest, upstream_digest=digest, mirrored_at=now)
    return True


def _note(row: Imaged, **found: Any) -> None:
    model = type(row)
    model._default_manager.filter(pk=row.pk).update(**found)


def _digest(reference: str, *, insecure: bool) -> str | None:
    """The digest of the image, or None when the registry does not have it."""
    flags = ["--tls-verify=false"] if insecure else []
    try:
        raw = _skopeo(["inspect", "--no-tags", *flags, reference], LOOK_TIMEOUT_S)
    except CannotMirror as problem:
        if "manifest unknown" in str(problem) or "name unknown" in str(problem) or "repository name" in str(problem):
            return None
        raise
    return str(json.loads(raw)["Digest"])


def _skopeo(arguments: Sequence[str], timeout_s: int) -> str:
    try:
        done = subprocess.run(
            ["skopeo", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise CannotMirror("skopeo is not installed (Debian: apt-get install skopeo).") from None
    except subprocess.TimeoutExpired:
        raise CannotMirror(f"skopeo {arguments[0]} did not finish within {timeout_s} s.") from None
    if done.returncode:
        raise CannotMirror(done.stderr.strip()[-500:] or f"skopeo {arguments[0]} failed")
    return done.stdout
