# Berth's firewall on a node, read by guard.sh. Chains of its own, and a jump to them in front of INPUT, FORWARD and
# DOCKER-USER; nobody else's rule is touched. Containers' bridges are called bi… (may begin connections to the
# internet) and bx… (may begin none); networks that an older Berth made have Docker's own names.
#
#   BERTH-INPUT    from a bridge of ours to the node itself       → BERTH-SELF
#   BERTH-ROOM     from a bridge of ours to anywhere else         → BERTH-OUT
#
# Both let pass what answers a connection that came in. BERTH-SELF drops the rest; BERTH-OUT drops what would begin a
# connection to another bridge of ours or to a private network, and everything that comes from bx….
# Both chains and jumps are made anew whenever they differ from what they should be: after `iptables -F`, a restart of
# the engine or a firewall program.

ours='BERTH-(INPUT|SELF|ROOM|OUT)'
# Private (RFC 1918, RFC 6598), link-local with the clouds' metadata, the node's own loopback, multicast. `blocked` is
# the network of the gateway, `block_more` the operator's.
never='10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 169.254.0.0/16 127.0.0.0/8 224.0.0.0/4'

# Those of the last round that the engine answered: it may be down while its containers run on.
bridges() {
    echo bi+
    echo bx+
    cat "$run/guard.bridges" 2>/dev/null
}

look_for_bridges() {
    networks=$(timeout -k 2 10 docker network ls --no-trunc --filter label=berth.reservation --format '{{.ID}}' \
        2>/dev/null 6>&-) || return
    for id in $networks; do
        name=br-$(echo "$id" | cut -c1-12)
        ! grep -q "^ *$name:" /proc/net/dev || echo "$name"
    done | sort >"$run/guard.bridges.new"
    mv "$run/guard.bridges.new" "$run/guard.bridges"
}

# The rules of $1 (4 or 6) for the bridges $2, for iptables-restore.
rules() {
    echo '*filter'
    for chain in INPUT SELF ROOM OUT; do echo ":BERTH-$chain - [0:0]"; done
    for bridge in $2; do
        echo "-A BERTH-INPUT -i $bridge -j BERTH-SELF"
        echo "-A BERTH-ROOM -i $bridge -j BERTH-OUT"
    done
    if [ "$1" = 6 ]; then
        # Containers have no IPv6: nothing in, nothing out.
        for bridge in $2; do echo "-A BERTH-ROOM -o $bridge -j DROP"; done
        echo '-A BERTH-SELF -j DROP'
        echo '-A BERTH-OUT -j DROP'
    else
        answer='-m conntrack --ctstate RELATED,ESTABLISHED --ctdir REPLY -j RETURN'
        echo "-A BERTH-SELF $answer"
        echo '-A BERTH-SELF -j DROP'
        echo "-A BERTH-OUT $answer"
        echo '-A BERTH-OUT -i bx+ -j DROP'
        for bridge in $2; do echo "-A BERTH-OUT -o $bridge -j DROP"; done
        for server in $allow_dns; do
            echo "-A BERTH-OUT -d $server -p udp -m udp --dport 53 -j RETURN"
            echo "-A BERTH-OUT -d $server -p tcp -m tcp --dport 53 -j RETURN"
        done
        for network in $never $blocked $block_more; do echo "-A BERTH-OUT -d $network -j DROP"; done
    fi
    echo COMMIT
}

# Our chains as the kernel has them.
there() { "$1-save" -t filter 2>/dev/null | grep -E "^(:|-A )$ours " | sed 's/ \[[0-9:]*\]$//'; }

# Every rule of the built-in chain $2 of $1, from its first.
chain() { "$1" -w 5 -S "$2" 2>/dev/null | grep '^-A'; }

# The jumps that $1 (iptables or ip6tables) must have, as "chain ours".
jumps() {
    echo 'INPUT BERTH-INPUT'
    echo 'FORWARD BERTH-ROOM'
    # The engine puts its own rules in front of ours in FORWARD; this chain it leaves alone, and asks first.
    [ "$1" = ip6tables ] || echo 'DOCKER-USER BERTH-ROOM'
}

# Whether $1's chain $2 asks ours, $3, before all others. Where Docker's own is asked first, that asks ours first.
asked_first() {
    list=$(chain "$1" "$2")
    first=$(echo "$list" | head -n 1)
    [ "$first" = "-A $2 -j $3" ] && return
    [ "$2" = FORWARD ] && [ "$first" = '-A FORWARD -j DOCKER-USER' ] && [ "$1" = iptables ] &&
        echo "$list" | grep -qx -- "-A $2 -j $3"
}

# What iptables-save prints is compared with what it printed right after our rules were loaded, since versions differ
# in how they print.
in_place() { # iptables, its rules
    [ "$2" = "$(cat "$run/$1.wanted" 2>/dev/null)" ] && [ "$(there "$1")" = "$(cat "$run/$1.there" 2>/dev/null)" ]
}

firewall_mend() {
    bridges=$(bridges)
    failed=0
    for ip in 4 6; do
        tables=iptables
        [ "$ip" = 4 ] || tables=ip6tables
        command -v "$tables" >/dev/null || continue
        wanted=$(rules "$ip" "$bridges")
        if ! in_place "$tables" "$wanted"; then
            [ ! -e "$run/$tables.wanted" ] || say "Berth's rules in $tables were not as they should be: loading them"
            echo "$wanted" | "$tables-restore" --noflush -w 5 || { failed=1; continue; }
            there "$tables" >"$run/$tables.there"
            echo "$wanted" >"$run/$tables.wanted"
        fi
        # The engine keeps a DOCKER-USER that it finds, so that no container ever runs without ours.
        [ "$tables" = ip6tables ] || "$tables" -w 5 -N DOCKER-USER 2>/dev/null || :
        jumps "$tables" | while read -r from to; do
            asked_first "$tables" "$from" "$to" || put_first "$tables" "$from" "$to" || exit 1
        done || failed=1
    done
    return "$failed"
}

# A new jump in front, then the others away: at no time there is none.
put_first() {
    "$1" -w 5 -I "$2" 1 -j "$3" || return
    chain "$1" "$2" | grep -nx -- "-A $2 -j $3" | cut -d: -f1 | sort -rn | while read -r number; do
        [ "$number" = 1 ] || "$1" -w 5 -D "$2" "$number"
    done
}

# Prints what is not as it should be, one sentence after "problem" a line.
firewall_look() {
    bridges=$(bridges)
    for ip in 4 6; do
        tables=iptables
        [ "$ip" = 4 ] || tables=ip6tables
        command -v "$tables" >/dev/null || continue
        in_place "$tables" "$(rules "$ip" "$bridges")" ||
            echo "problem its firewall lacks rules of Berth's chains ($tables)"
        jumps "$tables" | while read -r from to; do
            asked_first "$tables" "$from" "$to" || echo "problem its firewall does not ask $to first in $from ($tables)"
        done
    done
}

firewall_remove() {
    for tables in iptables ip6tables; do
        command -v "$tables" >/dev/null || continue
        jumps iptables | while read -r from to; do
            while "$tables" -w 5 -D "$from" -j "$to" 2>/dev/null; do :; done
        done
        for name in INPUT ROOM SELF OUT; do
            "$tables" -w 5 -F "BERTH-$name" 2>/dev/null && "$tables" -w 5 -X "BERTH-$name"
        done
    done
    rm -f "$run"/ip*tables.wanted "$run"/ip*tables.there
}
