"""The Docker Engine API, by the Docker SDK. The only file that imports it.

The low-level client is used: the high-level one inspects after each step, and its list races with removals.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.tls import TLSConfig

from compute import docker_config, docker_images, docker_logs
from compute.docker_quick import API_VERSION, QuickReader
from compute.engine import (
    PROBE_TIMEOUT_S,
    EngineRefused,
    ImageMissing,
    NoAnswer,
    PortTaken,
    Progress,
    RegistrySilent,
)
from compute.log_lines import MOST_LINES, Log
from compute.readings import Details, Listing, Usage
from compute.spec import LABEL_KEY, LABEL_RESERVATION, ContainerSpec, EngineInfo, ImageSeen, Observed, Presence, Writes

CONNECT_TIMEOUT_S = 3.05
STREAM_TIMEOUT_S = 60
PRESENCE = {
    "running": Presence.RUNNING,
    "paused": Presence.RUNNING,
    "restarting": Presence.RUNNING,
    "created": Presence.CREATED,
    "exited": Presence.EXITED,
    "dead": Presence.EXITED,
    "removing": Presence.EXITED,
}


class _BoundedClient(docker.APIClient):
    """No call waits without a limit: 3 s for a connection, and a minute for the next line of a stream."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._sooner = threading.local()
        super().__init__(*arguments, **named)

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Calls of this thread inside wait no longer than so much for the connection, nor for the answer."""
        self._sooner.seconds = seconds
        try:
            yield
        finally:
            self._sooner.seconds = None

    def _set_request_timeout(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        read_s = kwargs.get("timeout", self.timeout)
        limits = (CONNECT_TIMEOUT_S, STREAM_TIMEOUT_S if read_s is None else read_s)
        if sooner := getattr(self._sooner, "seconds", None):
            limits = (min(limits[0], sooner), min(limits[1], sooner))
        kwargs["timeout"] = limits
        return kwargs


class DockerEngine:
    """A ContainerEngine over `tcp://host:port` with mutual TLS, or `unix:///path`."""

    def __init__(self, url: str, tls_dir: Path | None = None, timeout_s: int = 20) -> None:
        if url.startswith("tcp://") and tls_dir is None:
            raise EngineRefused("an engine on tcp:// needs mutual TLS: set BERTH_TLS_DIR")
        self.url = url
        with _answers(url):
            tls = _mutual_tls(tls_dir) if tls_dir and url.startswith("tcp://") else False
            # The version is pinned: asking for it would be one more call, and every engine since 20.10 has it.
            self._api = _BoundedClient(base_url=url, tls=tls, timeout=timeout_s, version=API_VERSION, max_pool_size=32)
        # Private engines: no proxy, and no CA bundle of the environment in place of theirs.
        self._api.trust_env = False
        self._limits_disk: bool | None = None  # not asked yet
        self._quick = QuickReader(url, self._api)

    def info(self, timeout_s: float = PROBE_TIMEOUT_S) -> EngineInfo:
        with _answers(self.url), self._api.within(timeout_s):
            raw = self._api.info()
        return EngineInfo(
            version=raw["ServerVersion"],
            ram_mib=raw["MemTotal"] // 2**20,
            cores=raw["NCPU"],
            architecture=raw["Architecture"],
            containers=raw["ContainersRunning"],
        )

    def has_image(self, image: str) -> bool:
        with _answers(self.url):
            try:
                self._api.inspect_image(image)  # type: ignore[no-untyped-call]
            except NotFound:
                return False
        return True

    def digest(self, image: str) -> str | None:
        short = image.rsplit(":", 1)[0].removeprefix("library/")  # as the engine itself calls it
        with _answers(self.url):
            with suppress(NotFound):
                raw = self._api.inspect_image(image)  # type: ignore[no-untyped-call]
                for name in raw["RepoDigests"] or []:
                    repository, _, digest = str(name).partition("@")
                    if repository == short:
                        return digest
            try:
                found = self._api.inspect_distribution(image)  # type: ignore[no-untyped-call]
            except APIError as problem:
                if problem.status_code in {401, 403, 404}:  # Docker Hub says "denied" of what it does not have
                    return None
                raise
        return str(found["Descriptor"]["digest"])

    def pull(self, image: str, progress: Progress) -> None:
        layers: dict[str, tuple[int, int]] = {}
        with _answers(self.url):
            try:
                for line in self._api.pull(image, stream=True, decode=True):
                    if "error" in line:
                        raise _pull_error(image, str(line["error"]))
                    detail = line.get("progressDetail") or {}
                    if detail.get("total") and line.get("status") in {"Downloading", "Extracting"}:
                        done = detail.get("current", 0) if line["status"] == "Downloading" else detail["total"]
                        layers[line["id"]] = (done, detail["total"])
                        progress(sum(d for d, _ in layers.values()), sum(t for _, t in layers.values()))
            except NotFound as problem:
                raise ImageMissing(f"the registry does not have {image}") from problem
            except APIError as problem:  # the engine answered, and tells what it heard from the registry
                raise _pull_error(image, str(problem.explanation or problem)) from problem

    def make_network(self, spec: ContainerSpec) -> None:
        with _answers(self.url):
            if self._has_network(spec):
                return
            try:
                self._post("/networks/create", docker_config.network(spec))
            except APIError as problem:
                # Somebody made it between the two calls; or the engine has no address left, which is a no.
                if problem.status_code != 409 or not self._has_network(spec):
                    raise

    def _has_network(self, spec: ContainerSpec) -> bool:
        """Raises EngineRefused when a network of this name is not of this reservation."""
        for found in self._api.networks(names=[spec.network]):  # the engine looks for parts of names, too
            if found["Name"] == spec.network:
                _must_be_ours("network", spec, found["Labels"])
                return True
        return False

    def create(self, spec: ContainerSpec) -> None:
        with _answers(self.url):
            self._check_volume_entry(spec)
            try:
                self._create(spec)
            except ImageNotFound as problem:
                raise ImageMissing(f"the image {spec.image} is not on the node") from problem
            except APIError as problem:
                if problem.status_code != 409:
                    raise
                self._ours(spec)

    def _create(self, spec: ContainerSpec) -> None:
        limited = bool(spec.writes_mib) and self._can_limit_disk()
        try:
            self._post("/containers/create", docker_config.container(spec, disk_quota=limited), name=spec.name)
        except APIError as problem:
            if not limited or "storage-opt" not in str(problem.explanation):
                raise
            self._limits_disk = False  # xfs, but mounted without quotas
            self._post("/containers/create", docker_config.container(spec), name=spec.name)

    def start(self, spec: ContainerSpec) -> Observed:
        with _answers(self.url):
            try:
                engine_id = self._ours(spec)
                if engine_id is None:
                    self.create(spec)
                    engine_id = self._ours(spec)
                # By its id: what is started is what was looked at.
                self._api.start(engine_id or spec.name)
            except APIError as problem:
                if _is_port_conflict(problem):
                    raise PortTaken(str(problem.explanation)) from problem
                raise
            return self.observe(spec.name)

    def _ours(self, spec: ContainerSpec) -> str | None:
        """The id of the container of this name; None if there is none. Raises EngineRefused for another's."""
        try:
            raw = self._api.inspect_container(spec.name)
        except NotFound:
            return None
        _must_be_ours("container", spec, raw["Config"]["Labels"])
        return str(raw["Id"])

    def _check_volume_entry(self, spec: ContainerSpec) -> None:
        """The engine would take an entry of this name as it is, wherever it leads."""
        if not spec.mount_path:
            return
        try:
            found = self._api.inspect_volume(spec.volume_name or spec.name)
        except NotFound:
            return
        _must_be_ours("volume", spec, found["Labels"])
        if ((found["Options"] or {}).get("device") or None) != spec.volume_path:
            raise EngineRefused(f"the volume entry {spec.name} leads to another folder than it should")

    def _can_limit_disk(self) -> bool:
        if self._limits_disk is None:
            raw = self._api.info()
            status = dict(row for row in raw.get("DriverStatus") or [] if len(row) == 2)
            self._limits_disk = raw.get("Driver") == "overlay2" and status.get("Backing Filesystem") == "xfs"
        return self._limits_disk

    def _post(self, path: str, body: dict[str, Any], **query: str) -> None:
        """As the SDK's own methods do it; those would add fields of their own to the body."""
        api: Any = self._api  # the stubs leave out what begins with an underscore
        api._raise_for_status(api._post_json(api._url(path), data=body, params=query))

    def stop(self, name: str, grace_s: int) -> None:
        with _answers(self.url), suppress(NotFound):
            self._api.stop(name, timeout=grace_s)

    def observe(self, name: str) -> Observed:
        with _answers(self.url):
            try:
                raw = self._api.inspect_container(name)
            except NotFound:
                return Observed(Presence.ABSENT, name=name)
        state = raw["State"]
        presence = PRESENCE.get(state["Status"], Presence.UNKNOWN)
        return Observed(
            presence,
            raw["Id"],
            exit_code=state["ExitCode"] if presence == Presence.EXITED else None,
            out_of_memory=bool(state.get("OOMKilled")),
            name=raw["Name"].lstrip("/"),
            labels=raw["Config"]["Labels"] or {},
        )

    def remove(self, name: str, key: str = "") -> None:
        def ours(labels: dict[str, str] | None) -> bool:
            return not key or (labels or {}).get(LABEL_KEY) == key

        with _answers(self.url):
            with suppress(NotFound):
                if key and not ours(self._api.inspect_container(name)["Config"]["Labels"]):
                    return
                try:
                    self._api.remove_container(name, force=True, v=True)
                except APIError as problem:
                    if problem.status_code != 409:  # 409: somebody else is removing it; the next look will see
                        raise
                    raise NoAnswer(f"{self.url}: {name} is being removed already") from problem
            for network in self._api.networks(names=[name], filters={"label": LABEL_RESERVATION}):
                if network["Name"] == name and ours(network["Labels"]):
                    with suppress(NotFound):
                        self._api.remove_network(network["Id"])
            with suppress(NotFound):
                if not key or ours(self._api.inspect_volume(name)["Labels"]):
                    self._api.remove_volume(name)

    def writes(self, name: str) -> Writes:
        with _answers(self.url):
            try:
                raw = self._api.inspect_container(name)
            except NotFound:
                return Writes()
        layer = (raw.get("GraphDriver") or {}).get("Data", {}).get("UpperDir", "")
        mounts = raw.get("Mounts") or []
        # An image may declare folders of its own, for which the engine makes volumes that no one else knows.
        unnamed = [m["Source"] for m in mounts if m.get("Type") == "volume" and m.get("Name") != name]
        return Writes(str(raw["Id"]), tuple(path for path in (layer, *unnamed) if path))

    def written_mib(self) -> dict[str, int]:
        with _answers(self.url), self._api.within(STREAM_TIMEOUT_S):
            rows = self._api.containers(all=True, size=True, filters={"label": LABEL_RESERVATION})
        return {row["Names"][0].lstrip("/"): row.get("SizeRw", 0) // 2**20 for row in rows if row["Names"]}

    def list_ours(self) -> list[Observed]:
        with _answers(self.url):
            rows = self._api.containers(all=True, filters={"label": LABEL_RESERVATION})
        return [
            Observed(
                PRESENCE.get(row["State"], Presence.UNKNOWN),
                row["Id"],
                name=row["Names"][0].lstrip("/") if row["Names"] else "",
                labels=row["Labels"] or {},
            )
            for row in rows
        ]

    def list_traces(self) -> set[str]:
        ours = {"label": LABEL_RESERVATION}
        with _answers(self.url):
            networks = {row["Name"] for row in self._api.networks(filters=ours)}
            volumes = {row["Name"] for row in self._api.volumes(filters=ours)["Volumes"] or []}
        return {observed.name for observed in self.list_ours()} | networks | volumes

    def list_states(self) -> Listing:
        with _answers(self.url):
            return self._quick.list_states()

    def details(self, engine_id: str) -> Details | None:
        with _answers(self.url):
            return self._quick.details(engine_id)

    def usage(self, engine_id: str) -> Usage | None:
        with _answers(self.url):
            return self._quick.usage(engine_id)

    def logs(self, name: str, *, tail: int, since_ns: int | None = None) -> Log | None:
        with _answers(self.url), self._api.within(docker_logs.PIECE_LIMIT_S), suppress(NotFound):
            return docker_logs.read(self._api, name, min(tail, MOST_LINES), since_ns)
        return None

    def list_images(self) -> list[ImageSeen]:
        with _answers(self.url):
            return docker_images.seen(self._api)

    def forget_image(self, reference: str) -> None:
        with _answers(self.url), self._api.within(STREAM_TIMEOUT_S), suppress(NotFound):
            self._api.remove_image(reference)


def _must_be_ours(what: str, spec: ContainerSpec, labels: dict[str, str] | None) -> None:
    if (labels or {}).get(LABEL_KEY) != spec.labels.get(LABEL_KEY):
        raise EngineRefused(f"a {what} of the name {spec.name} belongs to another installation or to an older database")


def _mutual_tls(folder: Path) -> TLSConfig:
    return TLSConfig(
        client_cert=(str(folder / "cert.pem"), str(folder / "key.pem")), ca_cert=str(folder / "ca.pem"), verify=True
    )


@contextmanager
def _answers(url: str) -> Iterator[None]:
    """Sort what goes wrong: the engine said no, or it gave no answer that could be relied on."""
    try:
        yield
    except APIError as problem:
        text = str(problem.explanation or problem)
        if problem.status_code is not None and 400 <= problem.status_code < 500:
            raise EngineRefused(text) from problem
        if _says_no_for_good(text):
            raise EngineRefused(text) from problem
        raise NoAnswer(f"{url} answered with an error: {text[:300]}") from problem
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, DockerException, OSError) as problem:
        raise NoAnswer(f"{url} does not answer: {_in_words(problem)}") from problem


def _in_words(problem: Exception) -> str:
    """Why, for operators: the libraries' own texts are objects printed into each other."""
    text = str(problem)
    if isinstance(problem, requests.exceptions.ConnectTimeout):
        return f"no connection within {CONNECT_TIMEOUT_S:.0f} s"
    if isinstance(problem, requests.exceptions.ReadTimeout) or "Read timed out" in text:
        return "it took the call and sent nothing in time"
    for words in ("Connection refused", "No route to host", "Connection reset", "certificate verify failed"):
        if words in text:
            return words.lower()
    return text[:300]


def _says_no_for_good(text: str) -> bool:
    """Docker answers 500 for some mistakes in what was asked, where trying again cannot help."""
    return "executable file not found" in text or "OCI runtime create failed" in text


def _is_port_conflict(problem: APIError) -> bool:
    text = str(problem.explanation)
    return "port is already allocated" in text or "address already in use" in text


def _pull_error(image: str, text: str) -> Exception:
    if "manifest unknown" in text or "not found" in text:
        return ImageMissing(f"the registry does not have {image}")
    return RegistrySilent(f"pulling {image} failed: {text[:300]}")
