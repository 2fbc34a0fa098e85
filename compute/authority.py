"""The certificate authority of engines and portal: makes it, signs what nodes ask for, says what a certificate lacks.

Its key stays where it is: a node makes its own key and sends a request, and gets a certificate back. No Django.
"""

import ipaddress
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LASTS = timedelta(days=3650)
LASTS = timedelta(days=825)  # what some TLS libraries take at most
EARLIER = timedelta(minutes=10)  # for a node whose clock is behind


class Unusable(Exception):
    """The authority, a request or the portal's own certificate cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Authority:
    """ca.pem (the first of several certificates signs) and ca-key.pem in a folder."""

    folder: Path

    @property
    def bundle(self) -> str:
        """ca.pem as it is: whom both sides trust, which are two while one authority follows another."""
        return self._read("ca.pem").decode()

    @property
    def certificate(self) -> x509.Certificate:
        return _certificates(self.bundle)[0]

    def check(self, now: datetime) -> None:
        """Raises Unusable unless it can sign."""
        certificate, key = self.certificate, self._key()
        if certificate.not_valid_after_utc <= now:
            raise Unusable(f"the authority in {self.folder} ended on {certificate.not_valid_after_utc:%Y-%m-%d}")
        if _public(certificate.public_key()) != _public(key.public_key()):
            raise Unusable(f"ca-key.pem in {self.folder} is not the key of the first certificate in ca.pem")

    def sign(self, request: str, *, name: str, address: str, now: datetime, lasts: timedelta = LASTS) -> str:
        """A server's certificate for `address`, whatever else was asked for. Raises Unusable."""
        try:
            asked = x509.load_pem_x509_csr(request.encode())
        except ValueError as problem:
            raise Unusable(f"what {name} asked for is no certificate request") from problem
        if not asked.is_signature_valid:
            raise Unusable(f"the request of {name} is not signed by its own key")
        builder = self._builder(name, now, lasts).public_key(asked.public_key())
        names = [_alternative(address), x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName(name)]
        builder = builder.add_extension(x509.SubjectAlternativeName(list(dict.fromkeys(names))), critical=False)
        return self._signed(builder, ExtendedKeyUsageOID.SERVER_AUTH)

    def issue_client(self, folder: Path, *, name: str, now: datetime) -> None:
        """ca.pem, cert.pem and key.pem of a client of the engines; the key is made here. ca.pem comes last.

        Raises Unusable, and changes nothing, when one of them is there already.
        """
        nothing_there(folder, "ca.pem", "cert.pem", "key.pem")
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(name, now, LASTS).public_key(key.public_key())
        _write(folder / "key.pem", _private_pem(key), 0o600)
        _write(folder / "cert.pem", self._signed(builder, ExtendedKeyUsageOID.CLIENT_AUTH).encode(), 0o644)
        _write(folder / "ca.pem", self.bundle.encode(), 0o644)

    def _builder(self, name: str, now: datetime, lasts: timedelta) -> x509.CertificateBuilder:
        issuer = self.certificate
        until = min(now + lasts, issuer.not_valid_after_utc)
        builder = x509.CertificateBuilder().subject_name(_called(name)).issuer_name(issuer.subject)
        builder = builder.not_valid_before(now - EARLIER).not_valid_after(until)
        return builder.serial_number(x509.random_serial_number())

    def _signed(self, builder: x509.CertificateBuilder, purpose: x509.ObjectIdentifier) -> str:
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        signs = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.certificate.public_key())  # type: ignore[arg-type]
        builder = builder.add_extension(signs, critical=False)
        made = builder.sign(self._key(), hashes.SHA256())
        return made.public_bytes(serialization.Encoding.PEM).decode()

    def _key(self) -> CertificateIssuerPrivateKeyTypes:
        try:
            found = serialization.load_pem_private_key(self._read("ca-key.pem"), password=None)
        except (ValueError, TypeError) as problem:
            raise Unusable(f"{self.folder / 'ca-key.pem'} cannot be read as a key without a passphrase") from problem
        return found  # type: ignore[return-value]  # of an authority, it is a kind that signs

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as problem:
            raise Unusable(
                f"there is no authority in {self.folder}: {name} cannot be read ({problem.strerror})."
                " manage.py make_authority makes one; --ca names another folder"
            ) from problem


def make(folder: Path, *, now: datetime) -> bool:
    """A new authority in `folder`; False, and nothing changed, when there is one. ca.pem comes last.

    Raises Unusable when there is a key without its ca.pem: it may be what every node trusts.
    """
    if (folder / "ca.pem").exists():
        return False
    nothing_there(folder, "ca.pem", "ca-key.pem")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = _called("Berth authority")
    usage = dict.fromkeys(
        ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
    )
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.not_valid_before(now - EARLIER).not_valid_after(now + AUTHORITY_LASTS)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(
        x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False),
        critical=True,
    )
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    made = builder.sign(key, hashes.SHA256())
    _write(folder / "ca-key.pem", _private_pem(key), 0o600)
    _write(folder / "ca.pem", made.public_bytes(serialization.Encoding.PEM), 0o644)
    return True


def nothing_there(folder: Path, *names: str) -> None:
    """Raises Unusable when one of these files is in `folder`: what is there is never replaced."""
    if found := [name for name in names if os.path.lexists(folder / name)]:
        raise Unusable(
            f"{folder} has {' and '.join(found)}, but not all that belongs to it: put back what is missing, or move"
            " what is there away. Nothing was replaced"
        )


def what_is_wrong(
    certificate: str, public_key: str, *, authority: Authority, address: str, now: datetime, ahead: timedelta
) -> str:
    """Why an engine's certificate has to be made anew, as "is for another address"; "" when it is good `ahead`."""
    if not certificate.strip():
        return "is missing"
    try:
        found = _certificates(certificate)[0]
        alternative = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (Unusable, x509.ExtensionNotFound):
        return "cannot be read"
    if public_key.strip().encode() != _public(found.public_key()).strip():
        return "is not that of its key"
    try:
        found.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return "is of another authority"
    if _alternative(address) not in alternative:
        return f"is not for {address}"
    if found.not_valid_after_utc - now <= ahead:
        return f"ends on {found.not_valid_after_utc:%Y-%m-%d}"
    return ""


def check_client(folder: Path, authority: Authority, now: datetime) -> None:
    """Raises Unusable unless the portal's own certificate in `folder` is of this authority, and good today."""
    try:
        own = _certificates((folder / "cert.pem").read_text())[0]
        trusted = _certificates((folder / "ca.pem").read_text())
    except OSError as problem:
        raise Unusable(
            f"the portal has no certificate of its own in {folder} ({problem.strerror}): manage.py make_authority"
        ) from problem
    if authority.certificate not in trusted:
        raise Unusable(f"the portal does not trust this authority: it is not in {folder / 'ca.pem'}")
    if own.not_valid_after_utc <= now:
        raise Unusable(f"the portal's own certificate in {folder} ended on {own.not_valid_after_utc:%Y-%m-%d}")
    if not any(_issued(own, by) for by in _certificates(authority.bundle)):
        raise Unusable(f"the portal's own certificate in {folder} is of another authority, which the node would refuse")


def ends(certificate: str) -> datetime:
    return _certificates(certificate)[0].not_valid_after_utc


def _issued(certificate: x509.Certificate, by: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _certificates(text: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError as problem:
        raise Unusable("what should be a certificate cannot be read as one") from problem


def _public(key: object) -> bytes:
    pem = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_bytes(*pem))  # type: ignore[attr-defined]  # every kind of public key has it


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _alternative(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _called(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, with the folder's owner: the portal's account reads it even if root made it."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(new, owner.st_uid, owner.st_gid)
    new.replace(path)
