#!/bin/sh
# The node's own guard, put here by Berth: it ends containers whose time is over, and keeps Berth's firewall in place.
# It needs nobody but this machine: the portal may be gone and the cables pulled.
#
#   guard.sh start   run for good in the background, unless it runs already (machines without systemd)
#   guard.sh wall    the firewall only (before the engine is started)
#   guard.sh keep    the same in the foreground: starts `loop` again whenever that ends
#   guard.sh loop    a round every 10 s (what systemd runs)
#   guard.sh round   one round: firewall, containers, sign of life
#   guard.sh look    tell the portal how things are; changes nothing
#   guard.sh remove  take the firewall and the guard off this machine
#
# Expiry: the first line of /var/lib/berth/leases/CONTAINER (seconds since 1970), else the label berth.expires_at.
# What cannot be read is left alone and logged. Only containers with the label berth.reservation are ever stopped.
set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH LC_ALL=C

home=${BERTH_GUARD_HOME:-/var/lib/berth/guard}
leases=${BERTH_GUARD_LEASES:-/var/lib/berth/leases}
run=${BERTH_GUARD_RUN:-/run/berth}
blocked='' every=10 grace=5 allow_dns='' block_more=''
# shellcheck disable=SC1091
[ ! -r /etc/berth/guard.conf ] || . /etc/berth/guard.conf # written by Berth
# shellcheck disable=SC1091
[ ! -r /etc/berth/guard.local ] || . /etc/berth/guard.local # written by the operator

main() {
    mkdir -p "$run" "$leases"
    case ${1-} in
        start) start ;;
        wall) wall ;;
        keep) keep ;;
        loop) loop ;;
        round) round ;;
        look) look ;;
        remove) remove ;;
        *) echo "usage: guard.sh start|keep|loop|wall|round|look|remove" >&2; exit 64 ;;
    esac
}

# The firewall before anything else at boot: the engine must not be asked yet, since it may wait for us.
wall() {
    exec 6>"$run/guard.round.lock"
    flock -w 60 6 && firewall_mend
}

start() {
    wall
    exec 6>&-
    setsid /bin/sh "$home/guard.sh" keep </dev/null >/dev/null 2>&1 &
}

keep() {
    exec 8>"$run/guard.keep.lock"
    flock -n 8 || exit 0
    echo -900 2>/dev/null >/proc/self/oom_score_adj || :
    while [ -e "$home/guard.sh" ]; do
        /bin/sh "$home/guard.sh" loop 8>&-
        sleep 1
    done
}

loop() {
    exec 7>"$run/guard.loop.lock"
    flock -n 7 || exit 0
    started=$(version)
    while [ -e "$home/guard.sh" ]; do
        # Each round is a process of its own: one that hangs or dies takes nothing with it.
        timeout -k 5 90 /bin/sh "$home/guard.sh" round 7>&- || say "a round was given up"
        # Berth has put a newer one here: go on as that.
        [ "$(version)" = "$started" ] || exec /bin/sh "$home/guard.sh" loop
        sleep "$every" 7>&-
    done
}

round() {
    exec 6>"$run/guard.round.lock"
    flock -w 60 6 || exit 1
    look_for_bridges
    firewall_mend || say "the firewall could not be put in place"
    end_what_is_over
    # Uptime and not the clock, which may be set back.
    echo "$(uptime_s) $(version)" >"$run/guard.beat.new" && mv "$run/guard.beat.new" "$run/guard.beat"
}

# ---- the timer ---------------------------------------------------------------------------------------------

end_what_is_over() {
    listing=$(timeout -k 2 15 docker ps --all --no-trunc --filter label=berth.reservation \
        --format '{{.Names}} {{.State}} {{.Label "berth.expires_at"}}' 6>&- 2>&1) || {
        say "the engine does not tell what runs: $listing"
        return
    }
    forget_leases "$listing"
    over=$(echo "$listing" | while read -r name state label; do
        case $state in running | paused | restarting) ;; *) continue ;; esac
        if is_over "$name" "$label"; then echo "$name"; fi
    done)
    [ -n "$over" ] || return 0
    for name in $over; do say "$name is past its end: stopping it"; done
    # All in one call: the engine stops them side by side.
    # shellcheck disable=SC2086
    timeout -k 2 30 docker stop -t 5 $over >/dev/null 2>&1 6>&- && return
    for name in $over; do
        timeout -k 2 10 docker kill "$name" >/dev/null 2>&1 6>&- && say "$name had to be killed"
    done
}

# Those of containers that are gone, a day after they were written: a lease may be there before its container.
forget_leases() {
    find "$leases" -maxdepth 1 -type f -mmin +1440 | while read -r lease; do
        echo "$1" | grep -q "^${lease##*/} " || rm -f "$lease"
    done
}

# Whether the container $1 with the label $2 is past its end. What cannot be read is not.
is_over() {
    lease=$leases/$1 offset=0 end='' boot='' by_uptime=''
    if [ -e "$lease" ]; then
        { read -r end; read -r boot by_uptime; } <"$lease" 2>/dev/null
        # The second line counts from the start of the machine, which nobody who sets the clock can change.
        if [ -n "$by_uptime" ] && [ "$boot" = "$(cat /proc/sys/kernel/random/boot_id)" ]; then
            is_number "$by_uptime" || { say_once "the lease of $1 cannot be read: left alone"; return 1; }
            [ "$(uptime_s)" -gt $((by_uptime + grace)) ]
            return
        fi
    else
        end=$(seconds_of "$2")
        # How far this clock is ahead of the portal's, as that measured it last.
        [ ! -r "$run/guard.offset" ] || read -r offset <"$run/guard.offset"
    fi
    is_number "$end" || { say_once "the end of $1 cannot be read (label '$2'): left alone"; return 1; }
    [ "$(date +%s)" -gt $((end + offset + grace)) ]
}

# Seconds since 1970 of 2026-05-04T10:00:00+02:00, with or without a fraction; nothing for whatever else.
seconds_of() {
    echo "$1" | grep -Eqx \
        '[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})' || return
    date -u -d "$1" +%s 2>/dev/null
}

# Up to 11 digits: more would overflow somewhere, and a leading 0 would count in eights.
is_number() { echo "$1" | grep -Eqx '[1-9][0-9]{0,10}'; }

uptime_s() { cut -d. -f1 /proc/uptime; }

# ---- the portal's questions --------------------------------------------------------------------------------

look() {
    echo "now $(date +%s.%N)"
    echo "version $(version)"
    echo "offset $(cat "$run/guard.offset" 2>/dev/null || echo 0)"
    if [ -r "$run/guard.beat" ] && read -r beat _ <"$run/guard.beat"; then echo "beat $(($(uptime_s) - beat))"; fi
    command -v docker >/dev/null || echo "problem it has no docker command, without which its timer cannot end anything"
    for program in flock timeout iptables-restore; do
        command -v "$program" >/dev/null || echo "problem it has no program $program"
    done
    command -v ip6tables >/dev/null || echo "problem it has no ip6tables, so IPv6 of containers is not filtered"
    firewall_look
}

# Of all files together, so that the portal sees an old or changed one.
version() { cat "$home/guard.sh" "$home/firewall.sh" /etc/berth/guard.conf 2>/dev/null | sha256sum | cut -c1-16; }

remove() {
    rm -f "$home/guard.sh" /etc/cron.d/berth-guard
    if [ -d /run/systemd/system ]; then systemctl disable --now berth-guard.service; fi
    rm -f /etc/systemd/system/berth-guard.service
    [ ! -w /etc/rc.local ] || sed -i '/# berth-guard$/d' /etc/rc.local
    exec 6>"$run/guard.round.lock"
    flock -w 60 6
    firewall_remove
    rm -f "$home/firewall.sh" /etc/berth/guard.conf
}

# The log is kept small; with systemd the journal has it as well.
say() {
    echo "$*" >&2
    log=$home/guard.log
    [ "$(stat -c %s "$log" 2>/dev/null || echo 0)" -lt 262144 ] || mv "$log" "$log.1"
    echo "$(date -u +%Y-%m-%dT%H:%M:%SZ) $*" >>"$log"
}

# Each sentence once since the machine was started.
say_once() {
    grep -qxF -- "$*" "$run/guard.said" 2>/dev/null && return
    echo "$*" >>"$run/guard.said"
    say "$*"
}

# shellcheck source=firewall.sh
. "$home/firewall.sh"
main "$@"
