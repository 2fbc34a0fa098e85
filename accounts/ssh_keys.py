"""Public keys for SSH: read from what somebody pasted, checked, kept, and handed to containers that speak SSH.

A private key is refused before anything else looks at it: it is neither kept, nor logged, nor shown again.
"""

import base64
import binascii
import hashlib
import re
import unicodedata
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from django.db import transaction

from accounts import audit
from accounts.models import SshKey, User

MOST_KEYS = 20
MOST_TEXT = 100_000  # characters of one paste
LEAST_RSA_BITS, MOST_RSA_BITS = 2048, 16_384
LONGEST_NAME = 80
KINDS = {
    "ssh-ed25519": "Ed25519",
    "ssh-rsa": "RSA",
    "ecdsa-sha2-nistp256": "ECDSA",
    "ecdsa-sha2-nistp384": "ECDSA",
    "ecdsa-sha2-nistp521": "ECDSA",
    "sk-ssh-ed25519@openssh.com": "Ed25519 security key",
    "sk-ecdsa-sha2-nistp256@openssh.com": "ECDSA security key",
}
_LINE = re.compile(r"\A(?P<kind>\S+)[ \t]+(?P<body>\S+)(?:[ \t]+(?P<comment>.*))?\Z", re.DOTALL)


class BadKeys(Exception):
    """Nothing was added; the text is for the person who pasted, and repeats nothing of it."""


class PrivateKey(BadKeys):
    """They pasted the half that must stay with them."""

    def __init__(self) -> None:
        super().__init__(
            "This is a private key. It was not kept, but do not use it any more where others may have seen it."
            " Paste the public half: the file that ends in .pub."
        )


@dataclass(frozen=True, slots=True)
class Pasted:
    """One public key: type and base64 without the comment, and what it is called."""

    public_key: str
    fingerprint: str
    name: str


def parse(text: str) -> list[Pasted]:
    """The keys of a paste, one a line as in a .pub file; empty lines and those with # are left out. Raises BadKeys."""
    if "PRIVATE KEY" in text or "PuTTY-User-Key-File" in text or "Private-Lines:" in text:
        raise PrivateKey
    if len(text) > MOST_TEXT:
        raise BadKeys(f"This is too long: at most {MOST_TEXT:,} characters. A public key is one line.")
    lines = [(number, line.strip("\ufeff \t\r")) for number, line in enumerate(text.split("\n"), start=1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if not lines:
        raise BadKeys("Paste a public key: the line in a file that ends in .pub.")
    found: dict[str, Pasted] = {}
    for number, line in lines[: MOST_KEYS + 1]:
        try:
            key = _parse_line(line)
        except BadKeys as problem:
            raise BadKeys(f"Line {number}: {problem}" if len(lines) > 1 else str(problem)) from None
        found.setdefault(key.fingerprint, key)
    if len(lines) > MOST_KEYS:
        raise BadKeys(f"These are {len(lines)} lines. Somebody can have {MOST_KEYS} keys.")
    return list(found.values())


def _parse_line(line: str) -> Pasted:
    match = _LINE.match(line)
    kind = match["kind"] if match else ""
    if match is None or kind not in KINDS:
        raise BadKeys(_why_no_kind(kind, line))
    try:
        blob = base64.b64decode(match["body"], validate=True)
        key = load_ssh_public_key(f"{kind} {match['body']}".encode("ascii"))
    except (ValueError, UnsupportedAlgorithm, binascii.Error, IndexError):
        raise BadKeys("This is not a whole public key. Copy the whole line, from its type to its end.") from None
    if isinstance(key, RSAPublicKey) and not LEAST_RSA_BITS <= key.key_size <= MOST_RSA_BITS:
        raise BadKeys(
            f"An RSA key of {key.key_size} bits is too {'short' if key.key_size < LEAST_RSA_BITS else 'long'}:"
            f" {LEAST_RSA_BITS} to {MOST_RSA_BITS} are taken. Better make an Ed25519 key: ssh-keygen -t ed25519"
        )
    fingerprint = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    name = _clean(match["comment"] or "") or f"{KINDS[kind]} key"
    return Pasted(f"{kind} {base64.b64encode(blob).decode()}", f"SHA256:{fingerprint}", name)


def _why_no_kind(kind: str, line: str) -> str:
    if kind == "ssh-dss":
        return "DSA keys are not taken: they are not safe any more. Make an Ed25519 key: ssh-keygen -t ed25519"
    if "-cert-v0" in kind:
        return "This is a certificate. Paste the public key itself."
    if line.startswith(("SHA256:", "MD5:")):
        return "This is a fingerprint. Paste the public key itself."
    if any(f"{known} " in line for known in KINDS):
        return "Options before a key are not taken. Begin with its type, such as ssh-ed25519."
    return f"This is not a public key. It begins with one of {', '.join(sorted(KINDS))}."


def _clean(comment: str) -> str:
    """The comment as a name: nothing that cannot be seen, and not too long."""
    seen = "".join(character for character in comment if unicodedata.category(character)[0] != "C")
    return " ".join(seen.split())[:LONGEST_NAME].strip()


def add(*, user: User, text: str, by: object) -> list[SshKey]:
    """Keep the keys of a paste for `user`, all or none. Raises BadKeys."""
    pasted = parse(text)
    with transaction.atomic(durable=True):
        User.objects.select_for_update().get(pk=user.pk)  # two at once do not pass the limit together
        known = set(SshKey.objects.filter(user=user).values_list("fingerprint", flat=True))
        for key in pasted:
            if key.fingerprint in known:
                raise BadKeys(f"You have added the key {key.fingerprint} already.")
        if len(known) + len(pasted) > MOST_KEYS:
            raise BadKeys(
                f"Somebody can have {MOST_KEYS} keys; you have {len(known)}. Remove one that is not used any more."
            )
        rows = [
            SshKey.objects.create(user=user, name=key.name, public_key=key.public_key, fingerprint=key.fingerprint)
            for key in pasted
        ]
        for row in rows:
            audit.record(
                by=by, action="ssh_key.add", target=f"user:{user.pk}", name=row.name, fingerprint=row.fingerprint
            )
    return rows


def remove(*, key: SshKey, by: object) -> None:
    """Containers that start from now on do not get it."""
    with transaction.atomic(durable=True):
        if SshKey.objects.filter(pk=key.pk).delete()[0]:
            audit.record(
                by=by, action="ssh_key.remove", target=f"user:{key.user_id}", name=key.name, fingerprint=key.fingerprint
            )


def lines_of(user: User | None) -> str:
    """Somebody's keys as authorized_keys has them; a comment could end a line, so there is none."""
    if user is None or not user.is_active:
        return ""
    return "\n".join(SshKey.objects.filter(user=user).order_by("pk").values_list("public_key", flat=True))
