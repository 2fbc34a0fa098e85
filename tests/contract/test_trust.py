"""Whom the portal and the machines believe: certificates both ways, and pinned host keys."""

import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copy, copytree

import pytest

from compute import certificates
from compute.docker_engine import DockerEngine
from compute.engine import NoAnswer
from compute.shell import Host, SshOptions
from lab import Lab
from lab.certificates import issue, make_authority


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """A client certificate of an authority that nobody here knows, with that authority's own."""
    make_authority(tmp_path / "authority")
    issue(tmp_path / "authority", tmp_path / "tls", name="portal", purpose="clientAuth")
    return tmp_path / "tls"


def test_an_engine_that_shows_another_authoritys_certificate_is_refused(quiet_lab: Lab, stranger: Path) -> None:
    ours = Path(quiet_lab.info.keys.tls_dir)
    tls = copytree(ours, stranger.parent / "mixed")
    copy(stranger / "ca.pem", tls / "ca.pem")
    url = quiet_lab.info.nodes[0].engine_url

    assert DockerEngine(url, ours).info().cores > 0
    with pytest.raises(NoAnswer, match="certificate verify failed"):
        DockerEngine(url, tls).info()
    with pytest.raises(NoAnswer, match="certificate verify failed"):
        certificates.engine_expiry(url, tls)


def test_an_engine_under_another_name_is_refused(quiet_lab: Lab) -> None:
    """Its certificate is of the right authority, but for another address: one node cannot pass for another."""
    tls = Path(quiet_lab.info.keys.tls_dir)
    first, second = quiet_lab.info.nodes
    context = ssl.create_default_context(cafile=tls / "ca.pem")
    context.load_cert_chain(tls / "cert.pem", tls / "key.pem")
    with (
        socket.create_connection((first.address, 2376), timeout=5) as plain,
        pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"),
    ):
        context.wrap_socket(plain, server_hostname=second.address)


def test_a_client_of_another_authority_is_refused(quiet_lab: Lab, stranger: Path) -> None:
    copy(Path(quiet_lab.info.keys.tls_dir) / "ca.pem", stranger / "ca.pem")

    with pytest.raises(NoAnswer):
        DockerEngine(quiet_lab.info.nodes[0].engine_url, stranger).info()


def test_until_when_the_certificates_hold(quiet_lab: Lab) -> None:
    tls, now = Path(quiet_lab.info.keys.tls_dir), datetime.now(UTC)

    engine, client = (
        certificates.engine_expiry(quiet_lab.info.nodes[0].engine_url, tls),
        certificates.client_expiry(tls),
    )

    for expires_at in (engine, client):
        assert expires_at is not None
        assert now + timedelta(days=3600) < expires_at < now + timedelta(days=3651)


@pytest.mark.parametrize("known", ["", "another's"])
def test_a_machine_with_an_unknown_or_another_host_key_is_not_spoken_to(
    quiet_lab: Lab, ssh_options: SshOptions, tmp_path: Path, known: str
) -> None:
    node, other = quiet_lab.info.nodes
    pinned = Path(quiet_lab.info.keys.known_hosts).read_text().splitlines()
    others_key = next(line for line in pinned if line.startswith(other.address)).split()[1:]
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"{node.address} {' '.join(others_key)}\n" if known else "")
    # A folder of its own: over a connection that is open already nothing would be asked.
    strict = SshOptions(ssh_options.key, known_hosts, tmp_path / "s")

    assert Host(node.ssh, ssh_options).run(["echo", "hello"]) == "hello\n"
    with pytest.raises(NoAnswer, match="Host key verification failed"):
        Host(node.ssh, strict).run(["true"])
    with pytest.raises(NoAnswer, match="Host key verification failed"):
        Host(quiet_lab.info.storage.ssh, SshOptions(ssh_options.key, known_hosts, tmp_path / "s")).sftp(["pwd"])
