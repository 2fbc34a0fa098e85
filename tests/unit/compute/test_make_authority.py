"""make_authority where a part of what it makes is there already: a key that is there is never lost."""

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts.models import AuditEntry
from compute import authority
from compute.authority import Authority, Unusable
from tests.factories import NOW

pytestmark = pytest.mark.django_db


@pytest.fixture
def folders(tmp_path: Path, settings: Any) -> tuple[Path, Path]:
    """Where the authority and the portal's own certificate belong; both are there."""
    settings.BERTH_CA_DIR, settings.BERTH_TLS_DIR = tmp_path / "ca", tmp_path / "tls"
    call_command("make_authority", stdout=StringIO())
    return tmp_path / "ca", tmp_path / "tls"


def contents(*where: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in where for path in folder.iterdir()}


@pytest.mark.parametrize("words", [[], ["--dry-run"]], ids=["make", "dry run"])
@pytest.mark.parametrize(
    ("lost", "named"),
    [
        (["ca/ca.pem"], "ca has ca-key.pem"),
        (["tls/ca.pem"], "tls has cert.pem and key.pem"),
        (["tls/ca.pem", "tls/cert.pem"], "tls has key.pem"),
    ],
    ids=lambda what: "+".join(what) if isinstance(what, list) else "",
)
def test_a_key_without_its_certificates_is_named_and_stays(
    lost: list[str], named: str, words: list[str], folders: tuple[Path, Path], tmp_path: Path
) -> None:
    for name in lost:
        (tmp_path / name).unlink()
    before, rows = contents(*folders), AuditEntry.objects.count()

    with pytest.raises(CommandError, match=f"{named}, but not all that belongs to it.*Nothing was replaced"):
        call_command("make_authority", *words, stdout=StringIO())

    assert contents(*folders) == before
    assert AuditEntry.objects.count() == rows


def test_a_certificate_that_was_moved_away_with_its_key_is_made_anew(folders: tuple[Path, Path]) -> None:
    _, tls = folders
    before = contents(tls)
    for path in before:
        path.unlink()

    call_command("make_authority", stdout=StringIO())

    assert set(contents(tls)) == set(before)
    assert contents(tls)[tls / "key.pem"] != before[tls / "key.pem"]


def test_no_file_of_an_authority_or_a_client_is_written_over(folders: tuple[Path, Path]) -> None:
    ca, tls = folders
    before = contents(ca, tls)

    with pytest.raises(Unusable, match=r"has ca\.pem and cert\.pem and key\.pem"):
        Authority(ca).issue_client(tls, name="portal", now=NOW)
    (ca / "ca.pem").unlink()
    with pytest.raises(Unusable, match=r"has ca-key\.pem"):
        authority.make(ca, now=NOW)

    assert contents(ca, tls) == {path: text for path, text in before.items() if path != ca / "ca.pem"}
