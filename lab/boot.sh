#!/bin/sh
# First process of a lab machine. Started by machine.py inside new namespaces; arranges the machine's own view of the
# file system, then becomes the init. Everything mounted here belongs to the machine's mount namespace and vanishes with it.
#
# Environment: LAB_MACHINE its name, LAB_ROOT its directory, LAB_BINDS "data-name:/var/lib/x" words, LAB_FORWARD 1 for a router.
set -eu

# /proc is still the host's here, so this is our pid as the host sees it. The parent writes it down, then says "go":
# a parent that dies in between leaves nothing behind, since we end at the end of our input.
read -r pid _ </proc/self/stat
echo "$pid"
read -r go
[ "$go" = go ]

hostname "$LAB_MACHINE"
host_mounts=$(cut -d' ' -f5 /proc/self/mountinfo)
mount -t proc -o nosuid,nodev,noexec proc /proc

stage=$LAB_ROOT/stage
mount -t tmpfs -o mode=0755 berth-lab "$stage"
cd "$stage"
mkdir -p etc run/lab run/lock run/sshd var/lib var/log var/cache var/spool tmp var/tmp root home mnt srv
chmod 1777 tmp var/tmp run/lock
chmod 700 root
ln -s ../run var/run
mount -t overlay -o "lowerdir=/etc,upperdir=$LAB_ROOT/etc,workdir=$LAB_ROOT/etc.work" berth-lab "$stage/etc"
for bind in $LAB_BINDS; do
    mkdir -p "$stage${bind#*:}"
    mount --bind "$LAB_ROOT/data/${bind%%:*}" "$stage${bind#*:}"
done

# Asked now: its directory may lie below one that gets covered (a checkout in /root or /tmp).
boots_itself=
[ ! -x "$LAB_ROOT/etc/rc.local" ] || boots_itself=1

# A machine must not write to the host's disk except below its own directory.
for point in $host_mounts; do
    case $point in
        /proc | /proc/* | /sys | /sys/* | /dev | /dev/*) ;;
        /) mount -o remount,bind,ro / ;;
        *) mount -o remount,bind,ro "$point" || echo "left writable: $point" >&2 ;;
    esac
done

# Relative and not canonical, since the stage itself may lie below one of the directories that get covered.
for directory in etc run var tmp root home mnt srv; do
    [ ! -d "/$directory" ] || mount --no-canonicalize --rbind "./$directory" "/$directory"
done
cd /

if [ -e /proc/sys/net/ipv6/conf/all/disable_ipv6 ]; then
    echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6
    echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
fi
echo "$LAB_FORWARD" >/proc/sys/net/ipv4/ip_forward
ip link set lo up

# What the machine itself starts at boot, as other machines do: its own /etc/rc.local, not the host's below it.
if [ -n "$boots_itself" ]; then
    # Its words go nowhere: whoever started us waits for ours.
    env -i PATH="$PATH" HOME="$HOME" LANG="$LANG" /etc/rc.local </dev/null >/dev/null 2>&1 || echo "rc.local failed" >&2
fi

: >/run/lab/booted
echo ready
exec tini -g -- sleep infinity </dev/null >/dev/null 2>&1
