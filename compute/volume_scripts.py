"""The shell that `compute.volumes` runs on a node: POSIX sh, with coreutils, util-linux, e2fsprogs and sshfs.

Nothing here waits without a limit, a hung network file system included. Whoever waits for one cannot be killed, and
timeout(1) waits for what it kills: so such a step is left behind (`bounded`) and not waited for, until the
connection of the sshfs is cut (`abandon`), which gives everybody who waits for it an error.
"""

import shlex

ROOT = "/var/lib/berth"
KEY = "/etc/berth/storage.key"
KNOWN_HOSTS = "/etc/berth/storage_known_hosts"
MOUNTED_AT = f"{ROOT}/volumes"
TRY_LATER = 75  # EX_TEMPFAIL of sysexits.h
FOREIGN = 76

# Only the kernel's table tells of a file system whose program has died; everything else would ask that.
# An ext4 that met an error has "ro" among its options, or "emergency_ro" since Linux 6.15.
# The superblock begins at 1024: s_state is at 0x3A of it, its bit 2 is "met errors"; s_uuid is at 0x68
# (Documentation/filesystems/ext4/super.rst).
_FUNCTIONS = r"""
mounted() { grep -qF " $1 " /proc/self/mountinfo; }
read_only() { grep -qE "^[^ ]+ $1 ext4 ([^ ]*,)?(emergency_)?ro[, ]" /proc/self/mounts; }
uuid_of() { od -An -v -tx1 -j 1128 -N 16 "$1" | tr -d ' \n'; }
ours() { [ -z "$uuid" ] || [ "$(uuid_of "$1")" = "$uuid" ]; }
met_errors() { [ $(($(od -An -tu1 -j 1082 -N 1 "$1") & 2)) -ne 0 ]; }

# bounded SECONDS PROGRAM...: its exit code, or 124 when it hangs; what it said is in $said.
bounded() {
  seconds=$1; shift
  code=$(
    { { "$@" >/dev/null && echo 0 || echo $?; } </dev/null 2>"$said" 9>&- & } | timeout "$seconds" head -n 1
  ) || true
  code=${code:-124}
  return "$code"
}

# Cut the sshfs off from its mount, whether or not somebody uses it; -c: without looking at it.
abandon() {
  bounded 5 umount -f -c "$store" || true
  pkill -KILL -xf "sshfs .* $store" || true
}

unmount() {
  for try in 1 2 3 4 5; do
    mounted "$1" || return 0
    bounded 45 umount -c "$1" && continue
    [ "$code" -ne 124 ] || give_up_on "$1"
    bounded 5 umount -l -c "$1" || true
  done
  echo "$1 cannot be unmounted: $(cat "$said")" >&2; exit 1
}

# An unmount that takes long writes back what is not written yet, which is waited for as long as the store answers.
give_up_on() {
  if [ "$1" = "$mount" ] && mounted "$store" && bounded 5 stat -f "$store"; then
    echo "what was written to $name is still on its way to the storage server" >&2; exit 75
  fi
  abandon
}
"""

# One step at a time on a volume: a late attach cannot run beside a detach. Whatever goes on after the script must
# be started without the descriptor, or it would keep the lock.
LOCK = f"""
exec 9>"/run/berth-$name.lock"
flock -w 20 9 || {{ echo "an earlier step on $name has not ended" >&2; exit {TRY_LATER}; }}
"""

MOUNT_STORE = f"""
right() {{ grep -qF "$remote $store fuse.sshfs " /proc/self/mounts && bounded 5 stat -f "$store"; }}
if mounted "$store" && ! right; then
  abandon
  if mounted "$mount"; then bounded 5 umount -l -c "$mount" || true; fi  # it lies on the dead one
  bounded 5 umount -l -c "$store" || true
fi
if ! mounted "$store"; then
  mkdir -p "$store"
  code=0
  bounded 17 timeout -k 2 15 sshfs -p "$port" -o IdentityFile={KEY} -o UserKnownHostsFile={KNOWN_HOSTS} \
    -o StrictHostKeyChecking=yes -o ConnectTimeout=10 -o reconnect -o ServerAliveInterval=5 \
    -o ServerAliveCountMax=3 -o nosuid,nodev "$remote" "$store" || true
  [ "$code" -ne 127 ] || {{ cat "$said" >&2; exit 127; }}
  if [ "$code" -ne 0 ]; then echo "the storage server of $name does not answer" >&2; exit {TRY_LATER}; fi
fi
"""

_STEP = f"""
mkdir -p "$mount" "${{image%/*}}"
foreign() {{
  echo "the image of $name is another one than the database knows: of another installation or a newer database" >&2
  exit {FOREIGN}
}}
if mounted "$mount"; then
  ours "$(findmnt -n -o SOURCE "$mount" | tail -n 1)" || foreign
else
  if [ ! -e "$image" ]; then
    if [ -z "$fresh" ]; then echo "the image of $name is missing" >&2; exit 1; fi
    rm -f "$image.new"
    truncate -s "$bytes" "$image.new"
    mkfs.ext4 -q -F -m 0 -E "lazy_itable_init=1,lazy_journal_init=1$extended" $features "$image.new"
    mv "$image.new" "$image"
  fi
  ours "$image" || foreign
  loop=$(losetup --find --show $direct "$image")
  trap 'losetup -d "$loop"' EXIT  # takes effect when the last mount goes
  # What was only not unmounted, the mount itself puts right; e2fsck takes long with multi-mount protection.
  if met_errors "$image"; then
    e2fsck -p "$loop" >&2 || [ $? -lt 4 ] || {{ echo "the file system of $name cannot be mounted" >&2; exit 1; }}
  fi
  # After an unclean end, multi-mount protection watches the image twice for 11 s.
  mount -t ext4 -o nosuid,nodev,errors=remount-ro "$loop" "$mount"
fi
mkdir -p "$mount/data"
"""

ATTACH = f"""
if mounted "$mount" && read_only "$mount"; then
  bounded 10 umount -c "$mount" || bounded 5 umount -l -c "$mount" || true
fi
code=0
bounded 75 timeout -k 2 73 sh -euc "$functions$step" || true
if [ "$code" -ne 0 ]; then
  why=$(cat "$said") failed=$code
  if [ -n "$remote" ] && ! bounded 5 stat -f "$store"; then failed=124; fi
  if [ "$failed" -ge 124 ]; then
    abandon
    echo "the storage of $name does not answer" >&2; exit {TRY_LATER}
  fi
  echo "$why" >&2; exit "$failed"
fi
"""

DETACH = """
for place in "$mount" "$store"; do
  unmount "$place"
  [ ! -e "$place" ] || rmdir "$place"
done
rm -f "$said" "/run/berth-$name.hung"
"""

# Only what is ours goes; without an image, or with another one's, nothing of ours is there.
REMOVE_LOCAL = """
rm -f "$image.new"
if [ -e "$image" ] && ours "$image"; then rm -f "$image"; fi
"""

# How each volume is, one line for each: well, busy (a step goes on), gone, read-only, dead or hung.
CHECK = f"""
look() {{
  name=$1 store=$2 mount={MOUNTED_AT}/$1 said=/run/berth-$1.said hung=/run/berth-$1.hung
  exec 9>"/run/berth-$name.lock"
  flock -n 9 || {{ echo "$name busy"; return; }}
  how=well
  if ! mounted "$mount"; then
    how=gone
  elif [ -n "$store" ] && ! bounded 8 stat -f "$store"; then
    how=dead
    if [ "$code" -eq 124 ]; then
      how=hung
      [ -e "$hung" ] || date +%s >"$hung"
      if [ $(($(date +%s) - $(cat "$hung"))) -ge "$hung_for" ]; then abandon; how=dead; fi
    fi
  elif read_only "$mount"; then
    how=read-only
  fi
  if [ "$how" != hung ]; then rm -f "$hung"; fi
  echo "$name $how"
}}
"""

ANSWERS = f"""
printf 'ls -1 %s\\n' "$path" >"$said.batch"
ask() {{
  timeout -k 2 12 sftp -q -P "$port" -o BatchMode=yes -o IdentityFile={KEY} -o UserKnownHostsFile={KNOWN_HOSTS} \
    -o StrictHostKeyChecking=yes -o ConnectTimeout=8 -b "$said.batch" -- "$account"
}}
code=0
bounded 14 ask || true
rm -f "$said.batch"
if [ "$code" -eq 0 ]; then echo yes; fi
"""


def assign(values: dict[str, str]) -> str:
    """The beginning of every script: `values` as variables, exported for the steps that run apart."""
    known = values | {"functions": _FUNCTIONS, "step": _STEP}
    lines = "".join(f"{key}={shlex.quote(value)}\n" for key, value in known.items())
    return f'set -aeu\n{lines}eval "$functions"\n'
