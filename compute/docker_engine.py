"""The Docker Engine API, by the Docker SDK. The only file that imports it.

The low-level client is used: the high-level one inspects after each step, and its list races with removals.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.tls import TLSConfig
from docker.types import EndpointConfig, HostConfig, LogConfig, Mount, NetworkingConfig, Ulimit

from compute.engine import EngineRefused, ImageMissing, NoAnswer, PortTaken, Progress, RegistrySilent
from compute.spec import LABEL_RESERVATION, ContainerSpec, EngineInfo, Observed, Presence

CPU_PERIOD_US = 100_000
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

    def _set_request_timeout(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        read_s = kwargs.get("timeout", self.timeout)
        kwargs["timeout"] = (CONNECT_TIMEOUT_S, STREAM_TIMEOUT_S if read_s is None else read_s)
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
            self._api = _BoundedClient(base_url=url, tls=tls, timeout=timeout_s, version="1.41", max_pool_size=32)
        # Private engines: no proxy, and no CA bundle of the environment in place of theirs.
        self._api.trust_env = False

    def info(self) -> EngineInfo:
        with _answers(self.url):
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
            if self._api.networks(names=[spec.network], filters={"label": LABEL_RESERVATION}):
                return
            try:
                self._api.create_network(
                    spec.network, driver="bridge", labels=spec.labels, check_duplicate=True, enable_ipv6=False
                )
            except APIError as problem:
                if problem.status_code != 409:
                    raise

    def create(self, spec: ContainerSpec) -> None:
        with _answers(self.url):
            try:
                self._api.create_container_from_config(  # type: ignore[no-untyped-call]
                    self._config(spec), name=spec.name
                )
            except ImageNotFound as problem:
                raise ImageMissing(f"the image {spec.image} is not on the node") from problem
            except APIError as problem:
                if problem.status_code != 409:
                    raise

    def start(self, spec: ContainerSpec) -> Observed:
        with _answers(self.url):
            try:
                try:
                    self._api.start(spec.name)
                except NotFound:
                    self.create(spec)
                    self._api.start(spec.name)
            except APIError as problem:
                if _is_port_conflict(problem):
                    raise PortTaken(str(problem.explanation)) from problem
                raise
            return self.observe(spec.name)

    def _config(self, spec: ContainerSpec) -> dict[str, Any]:
        mounts = []
        if spec.volume_name and spec.volume_path and spec.mount_path:
            bind = {"type": "none", "o": "bind", "device": spec.volume_path}
            driver = docker.types.DriverConfig("local", options=bind)
            # A volume entry and not a bare bind: the engine fills an empty one with what the image has there.
            mounts = [Mount(spec.mount_path, spec.volume_name, labels=spec.labels, driver_config=driver)]
        elif spec.mount_path:
            mounts = [Mount(spec.mount_path, spec.name, labels=spec.labels)]
        bindings: dict[int | str, Any] = {
            f"{port.container_port}/{port.protocol}": (port.node_address, port.node_port) for port in spec.ports
        }
        host_config = HostConfig(
            version=self._api.api_version,
            port_bindings=bindings,
            network_mode=spec.network,
            mounts=mounts,
            mem_limit=f"{spec.ram_mib}m",
            memswap_limit=f"{spec.ram_mib}m",
            cpu_period=CPU_PERIOD_US,
            cpu_quota=int(spec.cores * CPU_PERIOD_US),
            pids_limit=spec.pids,
            cap_drop=["ALL"],
            cap_add=list(spec.capabilities),
            security_opt=["no-new-privileges"],
            log_config=LogConfig(type="json-file", config={"max-size": f"{spec.log_mib}m", "max-file": "1"}),
            ulimits=[Ulimit(name="nofile", soft=16_384, hard=16_384), Ulimit(name="core", soft=0, hard=0)],
            restart_policy={"Name": "no"},
            init=False,
        )
        return self._api.create_container_config(
            image=spec.image,
            command=list(spec.command) or None,  # type: ignore[arg-type]  # None keeps the image's own
            hostname=spec.hostname or None,
            environment=spec.environment,
            labels=spec.labels,
            ports=[(port.container_port, port.protocol) for port in spec.ports],
            host_config=host_config,
            networking_config=NetworkingConfig(
                {spec.network: EndpointConfig(self._api.api_version)}  # type: ignore[arg-type]  # the stub takes one
            ),
        )

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

    def remove(self, name: str) -> None:
        with _answers(self.url):
            try:
                self._api.remove_container(name, force=True, v=True)
            except NotFound:
                pass
            except APIError as problem:
                if problem.status_code != 409:  # 409: somebody else is removing it; the next look will see
                    raise
                raise NoAnswer(f"{self.url}: {name} is being removed already") from problem
            for network in self._api.networks(names=[name], filters={"label": LABEL_RESERVATION}):
                if network["Name"] == name:
                    with suppress(NotFound):
                        self._api.remove_network(network["Id"])
            with suppress(NotFound):
                self._api.remove_volume(name)

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
        raise NoAnswer(f"{url} does not answer: {str(problem)[:300]}") from problem


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
