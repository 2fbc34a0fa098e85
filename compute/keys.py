"""A new SSH key for the portal: the files of its keys, and the lists of keys on the machines. No Django.

Safe to be killed anywhere and run again: what is on the disk says how far it came.

    KEY.next                 the new key is being handed out; KEY is still the one in use
    KEY and KEY.old          the new one is in use; the old one is being taken off the machines
    KEY alone                done
"""

import base64
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from compute.shell import CommandFailed, Host, NoAnswer, SshOptions

_KEY = re.compile(r"\A(ssh-ed25519|ssh-rsa|ecdsa-sha2-[a-z0-9-]+|sk-[a-z0-9@.-]+) ([A-Za-z0-9+/=]+)( .*)?\Z")


@dataclass(frozen=True, slots=True)
class Machine:
    """One that the key opens. With `sftp_only` no command can be run there."""

    name: str
    target: str
    sftp_only: bool = False


class ByHand(Exception):
    """This machine's list of keys cannot be changed from here; the message says what to do there."""


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """The key in use and the two that are on their way in and out."""

    key: Path

    @property
    def coming(self) -> Path:
        return self.key.with_name(f"{self.key.name}.next")

    @property
    def going(self) -> Path:
        return self.key.with_name(f"{self.key.name}.old")

    @property
    def switched(self) -> bool:
        """Whether the new key is in use and the old one only has to be taken away."""
        return self.going.exists() and not self.coming.exists()

    def make(self) -> None:
        """The new key, with the owner and the mode of the old one; one that is there already is kept."""
        if self.coming.exists():
            return
        folder = self.key.parent / f".{self.key.name}.making"
        shutil.rmtree(folder, ignore_errors=True)  # of one that was killed
        folder.mkdir(mode=0o700)
        made = folder / "key"
        comment = public(self.key).comment or "berth"
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(made)],
            check=True,
            timeout=30,
            stdin=subprocess.DEVNULL,
        )
        as_it_was = self.key.stat()
        for path in (made, _pub(made)):
            os.chown(path, as_it_was.st_uid, as_it_was.st_gid)
        made.chmod(as_it_was.st_mode & 0o777)
        _pub(made).replace(_pub(self.coming))
        made.replace(self.coming)  # last: it is what counts
        folder.rmdir()

    def switch(self) -> None:
        """Put the new key into use. Killed anywhere in it, the key in use is whole, and once more goes on."""
        if not self.going.exists() or public(self.going).blob == public(self.key).blob:
            new = self.going.with_name(f"{self.going.name}.new")
            shutil.copy2(self.key, new)
            as_it_was = self.key.stat()
            os.chown(new, as_it_was.st_uid, as_it_was.st_gid)
            new.replace(self.going)
        shutil.copy2(_pub(self.coming), _pub(self.key))
        self.coming.replace(self.key)
        _pub(self.coming).unlink(missing_ok=True)

    def forget_old(self) -> None:
        self.going.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class PublicKey:
    kind: str
    blob: str
    comment: str

    def __str__(self) -> str:
        return f"{self.kind} {self.blob} {self.comment}".rstrip()


def public(key: Path) -> PublicKey:
    """The public half of a private key, from the key itself. Raises ValueError when it cannot be read."""
    done = subprocess.run(
        ["ssh-keygen", "-y", "-P", "", "-f", str(key)],
        check=False,
        timeout=30,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    found = _KEY.match(done.stdout.strip())
    if done.returncode or not found:
        raise ValueError(f"{key} cannot be read as a private key without a passphrase: {done.stderr.strip()}")
    return PublicKey(found[1], found[2], (found[3] or "").strip())


def opens(machine: Machine, key: Path, options: SshOptions) -> bool:
    """Whether this key alone opens the machine. Raises NoAnswer when the machine cannot be asked."""
    with only(key, options) as alone:
        host = Host(machine.target, alone)
        try:
            if machine.sftp_only:
                host.sftp(["pwd"])
            else:
                host.run(["true"])
        except (NoAnswer, CommandFailed) as problem:
            if "Permission denied" in str(problem):
                return False
            raise NoAnswer(str(problem)) from problem
        return True


def hand_out(machine: Machine, new: PublicKey, old: PublicKey, options: SshOptions) -> None:
    """Let the new key in beside the old one, with the same restrictions. Once more changes nothing. Raises ByHand."""
    _edit(machine, options, lambda text: with_key(text, new, old), f"add this line beside the old key's:\n{new}")


def take_away(machine: Machine, old: PublicKey, options: SshOptions) -> None:
    """Let the old key in no longer. Once more changes nothing. Raises ByHand."""
    _edit(machine, options, lambda text: without_key(text, old), f"remove the line of the old key:\n{old}")


def let_in(target: str, new: PublicKey, options: SshOptions) -> None:
    """Let the key in to an account that these options open. There already is success. Raises as Host.run."""
    Host(target, options).run(["sh", "-c", _LET_IN, "sh", new.blob], stdin=f"{new}\n")


# ---- the lists of keys -------------------------------------------------------------------------------------

Change = Callable[[str], str | None]
# Every file that sshd reads for this account, resolved, with its text in base64. Without sshd's word: the usual one.
_READ = """
set -u
me=$(id -un)
asked=$(sshd -T -C "user=$me,host=localhost,addr=127.0.0.1" 2>/dev/null)
for pattern in $(echo "$asked" | sed -n 's/^authorizedkeysfile //p'); do
  file=$(printf %s "$pattern" | sed "s|%%|%|g; s|%u|$me|g; s|%h|$HOME|g")
  case $file in none) continue ;; /*) ;; *) file=$HOME/$file ;; esac
  [ ! -f "$file" ] || printf '%s %s\\n' "$(base64 -w 0 <"$file")" "$file"
done
[ -n "${pattern-}" ] || [ ! -f "$HOME/.ssh/authorized_keys" ] ||
  printf '%s %s\\n' "$(base64 -w 0 <"$HOME/.ssh/authorized_keys")" "$HOME/.ssh/authorized_keys"
"""
# Into the first file that sshd reads for this account.
_LET_IN = """set -eu
umask 077
me=$(id -un) file=
for pattern in $(sshd -T -C "user=$me,host=localhost,addr=127.0.0.1" 2>/dev/null |
    sed -n 's/^authorizedkeysfile //p') .ssh/authorized_keys; do
  file=$(printf %s "$pattern" | sed "s|%%|%|g; s|%u|$me|g; s|%h|$HOME|g")
  case $file in none) continue ;; /*) ;; *) file=$HOME/$file ;; esac
  break
done
[ ! -f "$file" ] || ! grep -qF -- "$1" "$file" || exit 0
mkdir -p "$(dirname "$file")"
rm -f "$file.berth-new"
[ ! -f "$file" ] || cp -p -- "$file" "$file.berth-new"
[ ! -s "$file.berth-new" ] || [ -z "$(tail -c 1 "$file.berth-new")" ] || echo >>"$file.berth-new"
cat >>"$file.berth-new"
sync "$file.berth-new"
mv -- "$file.berth-new" "$file"
"""
_WRITE = """set -eu
cp -p -- "$1" "$1.berth-new"
cat >"$1.berth-new"
sync "$1.berth-new"
mv -- "$1.berth-new" "$1"
"""


def _edit(machine: Machine, options: SshOptions, change: Change, by_hand: str) -> None:
    """Change every list of keys of the account; ByHand when none of them could be."""
    host = Host(machine.target, options)
    if machine.sftp_only:
        changed = _edit_by_sftp(host, change)
    else:
        changed = False
        for line in host.run(["sh", "-s"], stdin=_READ).splitlines():
            encoded, _, path = line.partition(" ")
            text = change(base64.b64decode(encoded).decode())
            if text is not None:
                host.run(["sh", "-c", _WRITE, "sh", path], stdin=text)
                changed = True
    if not changed:
        raise ByHand(f"its authorized_keys cannot be changed from here. On {machine.target}, {by_hand}")


def _edit_by_sftp(host: Host, change: Change) -> bool:
    """Where the account may change the file itself; mostly it may not, which is safer."""
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "keys"
        try:
            host.sftp([f"get .ssh/authorized_keys {copy}"])
            text = change(copy.read_text())
            if text is None:
                return False
            copy.write_text(text)
            new = ".ssh/authorized_keys.berth-new"
            host.sftp([f"put {copy} {new}", f"chmod 600 {new}", f"rename {new} .ssh/authorized_keys"])
        except CommandFailed:
            return False
    return True


def with_key(text: str, new: PublicKey, old: PublicKey) -> str | None:
    """authorized_keys with a line for the new key after each of the old one's; None when it has no line of the old."""
    if new.blob in text.split():
        return text
    lines = []
    for line in text.splitlines():
        lines.append(line)
        if old.blob in line.split() and not line.lstrip().startswith("#"):
            lines.append(line.replace(f"{old.kind} {old.blob}", f"{new.kind} {new.blob}"))
    return "".join(f"{line}\n" for line in lines) if new.blob in " ".join(lines) else None


def without_key(text: str, old: PublicKey) -> str | None:
    """authorized_keys without the lines of the old key; None when there is none, so that nothing is to be done."""
    lines = text.splitlines()
    kept = [line for line in lines if old.blob not in line.split() or line.lstrip().startswith("#")]
    return "".join(f"{line}\n" for line in kept) if len(kept) < len(lines) else None


@contextmanager
def only(key: Path | None, options: SshOptions) -> Iterator[SshOptions]:
    """These options with another key (None: ssh's own), and no connection that the present one has opened before."""
    with TemporaryDirectory(prefix="berth-") as folder:
        yield replace(options, key=key, control_dir=Path(folder))
        for connection in Path(folder).iterdir():
            end = ["ssh", "-O", "exit", "-o", f"ControlPath={connection}", "--", "any"]
            subprocess.run(end, capture_output=True, check=False, timeout=10)


def _pub(key: Path) -> Path:
    return key.with_name(f"{key.name}.pub")
