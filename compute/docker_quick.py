"""The calls of the Docker Engine API that a round of readings makes some twenty thousand times.

They go over the SDK's own connections, with its certificates, but past what requests and the SDK do around each call,
which is half of their time.
"""

import json
from typing import Any
from urllib.parse import quote, urlencode

import requests
import urllib3

from compute import docker_readings
from compute.engine import READING_TIMEOUT_S, EngineRefused, NoAnswer
from compute.readings import Details, Listing, Usage
from compute.spec import LABEL_RESERVATION

API_VERSION = "1.41"
_LIST = "/containers/json?" + urlencode({"all": "1", "filters": json.dumps({"label": [LABEL_RESERVATION]})})


class QuickReader:
    """Reads from the engine of an SDK client (docker.APIClient). What goes wrong below HTTP is the caller's to sort."""

    def __init__(self, url: str, client: Any) -> None:
        self.url, self.client = url, client
        self._pool: urllib3.HTTPConnectionPool | None = None

    def list_states(self) -> Listing:
        answer = self._get(_LIST)
        self._must_be_fine(answer)
        try:
            return docker_readings.listing(answer.data, answer.headers.get("Server", ""))
        except docker_readings.NotUnderstood as problem:
            raise self._nonsense(problem) from problem

    def details(self, engine_id: str) -> Details | None:
        body = self._get_of(engine_id, "json")
        try:
            return None if body is None else docker_readings.details(body)
        except docker_readings.NotUnderstood as problem:
            raise self._nonsense(problem) from problem

    def usage(self, engine_id: str) -> Usage | None:
        body = self._get_of(engine_id, "stats?stream=false&one-shot=true")
        try:
            return None if body is None else docker_readings.usage(body)
        except docker_readings.NotUnderstood as problem:
            raise self._nonsense(problem) from problem

    def _get_of(self, engine_id: str, what: str) -> bytes | None:
        """None when there is no such container."""
        answer = self._get(f"/containers/{quote(engine_id, safe='')}/{what}")
        if answer.status == 404:
            return None
        self._must_be_fine(answer)
        return answer.data

    def _get(self, path: str) -> urllib3.BaseHTTPResponse:
        if self._pool is None:
            adapter = self.client.get_adapter(self.client.base_url)
            asked = requests.Request("GET", self.client.base_url).prepare()
            self._pool = adapter.get_connection_with_tls_context(asked, self.client.verify, cert=self.client.cert)
        return self._pool.urlopen(
            "GET",
            f"/v{API_VERSION}{path}",
            headers={"Host": "docker"},
            timeout=urllib3.Timeout(connect=READING_TIMEOUT_S, read=READING_TIMEOUT_S),
            retries=False,
        )

    def _must_be_fine(self, answer: urllib3.BaseHTTPResponse) -> None:
        """Raises EngineRefused when it says no, NoAnswer when it says that it cannot."""
        if answer.status >= 400:
            text = answer.data.decode(errors="replace")[:300]
            raise EngineRefused(text) if answer.status < 500 else NoAnswer(f"{self.url} answered with an error: {text}")

    def _nonsense(self, problem: Exception) -> NoAnswer:
        return NoAnswer(f"{self.url} answered what cannot be understood: {str(problem)[:200]}")
