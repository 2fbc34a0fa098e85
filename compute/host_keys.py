"""SSH host keys: what a machine shows, which one is pinned, and the pinning. Nothing is trusted on sight. No Django."""

import base64
import binascii
import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")  # best first
SCAN_S = 5


class Untrusted(Exception):
    """The machine is not known to be the one that is meant; the message says what to do. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class HostKey:
    kind: str
    blob: str

    @property
    def fingerprint(self) -> str:
        """As ssh-keygen -l prints it: SHA256 and base64 without padding."""
        digest = hashlib.sha256(base64.b64decode(self.blob)).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def shown(host: str) -> list[HostKey]:
    """What the machine shows at this moment, the best kind first; empty when no sshd answers."""
    argv = ["ssh-keyscan", "-T", str(SCAN_S), "-t", "ed25519,ecdsa,rsa", "--", host]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=4 * SCAN_S, check=False)
    except subprocess.TimeoutExpired:
        return []
    return sorted(_keys(done.stdout), key=lambda key: KINDS.index(key.kind))


def pinned(known_hosts: Path, host: str) -> list[HostKey]:
    """Those that the file has for this machine."""
    if not known_hosts.exists():
        return []
    argv = ["ssh-keygen", "-F", host, "-f", str(known_hosts)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    return _keys(done.stdout)


def choose(host: str, known_hosts: Path, expected: str) -> tuple[HostKey, bool]:
    """The key by which the machine is known or may become known, and whether it is pinned already.

    `expected` is the fingerprint that somebody has compared, or "". Raises Untrusted when the machine shows none,
    another than the pinned one, or another than the expected one. One that is neither pinned nor expected is
    returned all the same: the caller must ask before it pins it.
    """
    keys = shown(host)
    if not keys:
        raise Untrusted(f"{host} has no sshd that answers on port 22 within {SCAN_S} s.")
    known = pinned(known_hosts, host)
    found = [key for key in keys if key in known]
    prints = ", ".join(key.fingerprint for key in keys)
    if known and not found:
        raise Untrusted(
            f"{host} shows another host key ({prints}) than the one that is pinned"
            f" ({', '.join(key.fingerprint for key in known)}). If it was installed anew, remove the old one:"
            f" ssh-keygen -R {host} -f {known_hosts}"
        )
    if expected:
        found = [key for key in found or keys if key.fingerprint == expected]
        if not found:
            raise Untrusted(f"{host} does not have the host key {expected}; it shows {prints}.")
    return (found or keys)[0], bool(known)


def pin(known_hosts: Path, host: str, key: HostKey) -> None:
    """Add the line; it is there already: nothing is changed. The file is replaced whole, and keeps owner and mode."""
    if key in pinned(known_hosts, host):
        return
    old = known_hosts.read_text() if known_hosts.exists() else ""
    new = known_hosts.with_name(f".{known_hosts.name}.new")
    separator = "" if not old or old.endswith("\n") else "\n"
    new.write_text(f"{old}{separator}{host} {key.kind} {key.blob}\n")
    as_it_was = known_hosts.stat() if known_hosts.exists() else known_hosts.parent.stat()
    new.chmod(as_it_was.st_mode & 0o777 if known_hosts.exists() else 0o644)
    if os.geteuid() == 0:
        os.chown(new, as_it_was.st_uid, as_it_was.st_gid)
    new.replace(known_hosts)


def _keys(text: str) -> list[HostKey]:
    """Of the lines of a known_hosts file; what is no key is passed over."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 3 or line.startswith(("#", "@")) or words[1] not in KINDS:
            continue
        try:
            base64.b64decode(words[2], validate=True)
        except binascii.Error:
            continue
        found.append(HostKey(words[1], words[2]))
    return found
