#!/usr/bin/env bash
# Sets what sipring wants of the machine beyond its own files, and takes all of it back with --revert.
# Every change is written down before it is made; if one fails, those of this run are taken back.
# README.md beside this file says what each is good for, and what was measured.
set -euo pipefail

usage() {
    cat <<'USAGE'
apply.sh [options]
  -c, --config FILE    sipring.toml: its ports (default sipring.toml)
  -t, --tuning FILE    cpus.toml: workers and buffers (default cpus.toml beside this script)
  -i, --interface IF   its interrupts go to the cpus of the workers
      --xdp            with -i: a queue a worker, and rules that bring worker ports to their queues
      --unit NAME      limits for this systemd unit
      --dry-run        say what would be changed, and change nothing
      --revert         take back what was changed
      --state FILE     where changes are written down (default /var/lib/sipring/tuning.state)
      --root DIR       change files below DIR instead of /
USAGE
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
config=sipring.toml
tuning=$here/cpus.toml
interface=""
xdp=false
unit=""
dry=false
revert=false
root=""
state=""
while [ $# -gt 0 ]; do
    case $1 in
    -c | --config | -t | --tuning | -i | --interface | --unit | --state | --root)
        [ $# -ge 2 ] || { echo "$1 wants a value" >&2; exit 2; }
        case $1 in
        -c | --config) config=$2 ;;
        -t | --tuning) tuning=$2 ;;
        -i | --interface) interface=$2 ;;
        --unit) unit=$2 ;;
        --state) state=$2 ;;
        --root) root=${2%/} ;;
        esac
        shift
        ;;
    --xdp) xdp=true ;;
    --dry-run) dry=true ;;
    --revert) revert=true ;;
    -h | --help) usage; exit 0 ;;
    *) echo "unknown option $1" >&2; usage >&2; exit 2 ;;
    esac
    shift
done
state=${state:-$root/var/lib/sipring/tuning.state}

say() { printf '%s\n' "$*"; }

# --- what was before ---

# What is in memory only is gone after a restart of the machine; so are its records then.
boot=$(cat "$root/proc/sys/kernel/random/boot_id" 2>/dev/null || echo unknown)
made=0
again=false

# Writes down: kind, what, value before. Once is enough: the first holds.
record() {
    local line
    line=$(printf '%s\t%s\t%s\t%s' "$boot" "$1" "$2" "$3")
    if [ -e "$state" ] && cut -f 1-3 "$state" | grep -qxF "$(printf '%s\t%s\t%s' "$boot" "$1" "$2")"; then
        again=true
        return
    fi
    mkdir -p "$(dirname "$state")"
    printf '%s\n' "$line" >>"$state"
    sync "$state"
    made=$((made + 1))
}

# Takes back one record. What never came about, since it was refused, needs nothing.
restore() {
    local kind=$1 what=$2 old=$3
    case $kind in
    file) [ "$(cat "$what")" = "$old" ] || printf '%s\n' "$old" >"$what" ;;
    made)
        rm -f "$what"
        rmdir "$(dirname "$what")" 2>/dev/null || true
        ;;
    channels)
        # shellcheck disable=SC2086 # the value is a list of words
        [ "$(channels "$what")" = "$old" ] || ethtool -L "$what" $old
        ;;
    spread) ethtool -X "$what" default ;;
    ntuple) [ "$(ntuple "$what")" = "$old" ] || ethtool -K "$what" ntuple "$old" ;;
    rule) ethtool -N "${what% *}" delete "${what##* }" ;;
    *) return 1 ;;
    esac
}

# Queues of an interface, as words for `ethtool -L`.
channels() {
    { ethtool -l "$1" 2>/dev/null || true; } | awk '
        /^Current/ { now = 1 }
        now && /^(RX|TX|Combined):/ && $2 ~ /^[0-9]+$/ && $2 > 0 { printf "%s%s %s", sep, tolower($1), $2; sep = " " }
    ' | tr -d ':'
}

# Whether ntuple filters of an interface are on or off.
ntuple() {
    { ethtool -k "$1" 2>/dev/null || true; } | sed -nE 's/^ntuple-filters: (on|off).*/\1/p'
}

# Takes back the last records, as many as given; those that cannot be stay written down.
take_back() {
    local count=$1 total kept failed=0 line when kind what old
    [ -e "$state" ] || return 0
    total=$(wc -l <"$state")
    kept=$(head -n $((total - count)) "$state")
    while IFS= read -r line; do
        # Not by read's own splitting: tabs next to each other would count as one.
        when=$(cut -f 1 <<<"$line") kind=$(cut -f 2 <<<"$line")
        what=$(cut -f 3 <<<"$line") old=$(cut -f 4- <<<"$line")
        if [ "$when" != "$boot" ] && [ "$kind" != made ]; then
            say "gone with the last boot: $kind $what"
        elif restore "$kind" "$what" "$old"; then
            say "restored $kind $what: ${old:-(nothing)}"
        else
            say "NOT restored: $kind $what, which was: ${old:-(nothing)}" >&2
            kept=$kept${kept:+$'\n'}$line
            failed=1
        fi
    done < <(tail -n "$count" "$state" | tac)
    if [ -n "$kept" ]; then
        printf '%s\n' "$kept" >"$state.new"
        mv "$state.new" "$state"
    else
        rm -f "$state"
    fi
    return $failed
}

if $revert; then
    if ! [ -e "$state" ]; then
        say "nothing to revert: no $state"
        exit 0
    fi
    if $dry; then
        while IFS= read -r line; do
            say "would restore $(cut -f 2 <<<"$line") $(cut -f 3 <<<"$line"): $(cut -f 4- <<<"$line")"
        done < <(tac "$state")
        exit 0
    fi
    take_back "$(wc -l <"$state")"
    exit
fi

failed() {
    # From within $(...) it is for the caller to go on.
    [ "$BASHPID" = $$ ] || exit 1
    trap - ERR
    say "failed: $*" >&2
    if [ "$made" -gt 0 ]; then
        say "taking back the changes of this run" >&2
        take_back "$made" || say "not all could be taken back: $state has what is left" >&2
    fi
    if $again; then
        say "what an earlier run had changed too stays as this one set it; --revert takes all back" >&2
    fi
    exit 1
}

# Nothing ends this half way in silence.
set -E
trap 'failed "line $LINENO: $BASH_COMMAND"' ERR

# --- one change of each kind ---

# put FILE VALUE REASON: a file of the kernel gets a value.
put() {
    local file=$root$1 value=$2 reason=$3 old
    if ! [ -e "$file" ]; then
        say "not here: $1 ($reason)"
        return
    fi
    old=$(cat "$file") || failed "$1 cannot be read"
    if [ "$old" = "$value" ]; then
        say "as wanted: $1 = $value"
        return
    fi
    if $dry; then
        say "would set $1 from '$old' to '$value': $reason"
        return
    fi
    record file "$file" "$old"
    { printf '%s\n' "$value" >"$file"; } 2>/dev/null || failed "$1 refuses '$value'"
    say "set $1 from '$old' to '$value': $reason"
}

# raise FILE VALUE REASON: the same for a limit, which is never lowered.
raise() {
    local old
    if [ -e "$root$1" ] && old=$(cat "$root$1") && [ "$old" -ge "$2" ]; then
        say "as wanted: $1 = $old"
        return
    fi
    put "$1" "$2" "$3"
}

# --- what the files say ---

# number FILE KEY DEFAULT
number() {
    local found=""
    [ -e "$1" ] && found=$(sed -nE "s/^[[:space:]]*$2[[:space:]]*=[[:space:]]*([0-9_]+).*/\1/p" "$1" | tail -n 1)
    found=${found//_/}
    echo "${found:-$3}"
}

# The cpus of `workers = [..]`; none if it is a count.
worker_cpus() {
    [ -e "$tuning" ] || return 0
    sed -nE 's/^[[:space:]]*workers[[:space:]]*=[[:space:]]*\[([0-9, ]*)\].*/\1/p' "$tuning" | tail -n 1 | tr -d ' ' | tr ',' ' '
}

# First and last of `ports = "a-b"`, a line a node side.
port_ranges() {
    [ -e "$config" ] || return 0
    sed -nE 's/^[[:space:]]*ports[[:space:]]*=[[:space:]]*"([0-9]+)(-([0-9]+))?".*/\1 \3/p' "$config"
}

bound_ports() {
    [ -e "$config" ] || return 0
    sed -nE 's/^[[:space:]]*bind[[:space:]]*=[[:space:]]*".*:([0-9]+)".*/\1/p' "$config"
}

for file in "$config" "$tuning"; do
    [ -e "$file" ] || say "warning: no $file: what it would say is left out" >&2
done
read -ra cpus <<<"$(worker_cpus)"
if [ ${#cpus[@]} -gt 0 ]; then workers=${#cpus[@]}; else workers=$(number "$tuning" workers 1); fi

# --- sockets ---

sockets() {
    raise /proc/sys/net/core/rmem_max "$(number "$tuning" receive_buffer 8388608)" \
        "a burst survives while a worker does not run"
    raise /proc/sys/net/core/wmem_max "$(number "$tuning" send_buffer 8388608)" \
        "a burst of answers fits"
}

# covered FIRST LAST LIST: whether all these ports are in a list such as `5060,5070-5077`.
covered() {
    local part
    for part in ${3//,/ }; do
        if [ "${part%-*}" -le "$1" ] && [ "${part#*-}" -ge "$2" ]; then return; fi
    done
    return 1
}

# Ports that the kernel might give to somebody else before sipring starts.
reserved() {
    local file=/proc/sys/net/ipv4/ip_local_reserved_ports range low high wanted first last
    range=$(cat "$root/proc/sys/net/ipv4/ip_local_port_range" 2>/dev/null) || return 0
    read -r low high <<<"$range"
    wanted=$(cat "$root$file" 2>/dev/null || true)
    while read -r first last; do
        last=${last:-$first}
        if [ "$last" -ge "$low" ] && [ "$first" -le "$high" ] && ! covered "$first" "$last" "$wanted"; then
            wanted=$wanted${wanted:+,}$first
            if [ "$first" != "$last" ]; then wanted=$wanted-$last; fi
        fi
    done < <(port_ranges; bound_ports)
    [ -n "$wanted" ] || return 0
    put "$file" "$wanted" "else the kernel may give a port of sipring's to another program's socket"
}

# --- the interface ---

# Each interrupt of a queue goes to the cpu of the worker with that number.
interrupts() {
    local base="$root/sys/class/net/$interface" place irq name queue done=0
    [ -e "$base" ] || failed "no interface $interface"
    if [ ${#cpus[@]} -eq 0 ]; then
        say "interrupts of $interface stay: workers are not pinned"
        return
    fi
    for place in "$base/device/msi_irqs" "$base/device/../msi_irqs"; do
        [ -d "$place" ] && break
    done
    if ! [ -d "$place" ]; then
        say "interrupts of $interface stay: it has none of its own"
        return
    fi
    for irq in $(find "$place" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort -n); do
        name=$(sed -nE "s/^[[:space:]]*$irq:.*[[:space:]]([^[:space:]]+)\$/\1/p" "$root/proc/interrupts")
        name=${name%@*}
        # Queues are numbered at the end; what is not so named is no queue.
        case $name in
        *config* | *event* | *async* | *admin* | *misc* | *ctrl* | *ptp* | "") continue ;;
        *[0-9]) queue=${name##*[!0-9]} ;;
        *rx | *tx | *input | *output) queue=0 ;;
        *) continue ;;
        esac
        put "/proc/irq/$irq/smp_affinity_list" "${cpus[$((10#$queue % workers))]}" \
            "queue $queue of $interface is served where its worker runs"
        done=1
    done
    [ "$done" = 1 ] || say "interrupts of $interface stay: none is named after a queue"
    if ! $dry && [ -z "$root" ] && command -v systemctl >/dev/null && systemctl -q is-active irqbalance 2>/dev/null; then
        say "warning: irqbalance runs and will move interrupts again: stop it, or ban them there" >&2
    fi
}

# A queue a worker, nothing to other queues, and worker ports to their workers' queues.
queues() {
    local old wanted first last port index family features
    command -v ethtool >/dev/null || failed "ethtool is not installed"
    old=$(channels "$interface")
    [ -n "$old" ] || failed "$interface does not tell its queues"
    case $old in
    *combined*) wanted="combined $workers" ;;
    *) wanted="rx $workers tx $workers" ;;
    esac
    if [ "$old" = "$wanted" ]; then
        say "as wanted: queues of $interface: $old"
    elif $dry; then
        say "would change the queues of $interface from '$old' to '$wanted': a queue without a worker is served by none"
    else
        record channels "$interface" "$old"
        # shellcheck disable=SC2086 # the value is a list of words
        ethtool -L "$interface" $wanted || failed "$interface refuses $wanted queues"
        say "changed the queues of $interface from '$old' to '$wanted': a queue without a worker is served by none"
    fi
    spread
    features=$(ntuple "$interface")
    if [ "$features" = on ]; then
        say "as wanted: ntuple filters of $interface are on"
    elif $dry; then
        say "would turn on ntuple filters of $interface: rules bring worker ports to their queues"
    else
        record ntuple "$interface" "${features:-off}"
        ethtool -K "$interface" ntuple on || failed "$interface has no ntuple filters: answers of nodes are handed over"
        say "turned on ntuple filters of $interface: rules bring worker ports to their queues"
    fi
    while read -r first last; do
        index=0
        for port in $(seq "$first" "${last:-$first}"); do
            for family in udp4 udp6; do
                rule "$family" "$port" $((index % workers))
            done
            index=$((index + 1))
        done
    done < <(port_ranges | sort -u)
}

# Rules that this script has made: `flow port queue id`, by the state's records.
rule() {
    local family=$1 port=$2 queue=$3 said id
    if [ -e "$state" ] && cut -f 2,4- "$state" | grep -qxF "$(printf 'rule\t%s %s %s' "$family" "$port" "$queue")"; then
        say "as wanted: $family port $port to queue $queue"
        return
    fi
    if $dry; then
        say "would bring $family port $port to queue $queue: its worker holds that port"
        return
    fi
    said=$(ethtool -N "$interface" flow-type "$family" dst-port "$port" action "$queue") ||
        failed "$interface refuses a rule for $family port $port"
    id=$(sed -nE 's/.*ID ([0-9]+).*/\1/p' <<<"$said")
    [ -n "$id" ] || failed "$interface does not tell the number of the rule for $family port $port"
    # Written down behind it, since only now it has a number.
    record rule "$interface $id" "$family $port $queue"
    say "brought $family port $port to queue $queue: its worker holds that port"
}

# The table that hashes lead through, spread evenly over all queues as the driver does of itself. One
# that somebody has set by hand could not be put back, so it is left alone.
spread() {
    local queues
    queues=$({ ethtool -x "$interface" 2>/dev/null || true; } | awk '
        /^RX flow hash indirection/ { on = 1; next }
        /^RSS hash key/ { on = 0 }
        on && /^[[:space:]]*[0-9]+:/ { for (i = 2; i <= NF; i++) { place[n++] = $i; if ($i + 1 > most) most = $i + 1 } }
        END {
            for (i = 0; i < n; i++) if (place[i] != i % most) { print "odd"; exit }
            print most + 0
        }')
    case $queues in
    0) say "no table of hashes at $interface" ;;
    "$workers") say "as wanted: hashes of $interface lead to $workers queues" ;;
    odd) say "warning: the table of hashes of $interface was set by hand, and stays" >&2 ;;
    *)
        if $dry; then
            say "would spread the hashes of $interface over $workers queues, now $queues"
            return
        fi
        record spread "$interface" "default"
        ethtool -X "$interface" equal "$workers" || failed "$interface refuses to spread its hashes"
        say "spread the hashes of $interface over $workers queues, not $queues"
        ;;
    esac
}

# --- limits ---

limits() {
    local file="$root/etc/systemd/system/$unit.d/sipring-tuning.conf" text
    text=$(printf '%s\n' "# By sipring's tuning/apply.sh; --revert removes it." "[Service]" \
        "# A descriptor a socket: each worker has listeners, worker ports and connected sockets." "LimitNOFILE=65536" \
        "# Rings and packet memory that the kernel reads are locked." "LimitMEMLOCK=infinity")
    if [ -e "$file" ] && [ "$(cat "$file")" = "$text" ]; then
        say "as wanted: ${file#"$root"}"
        return
    fi
    if $dry; then
        say "would write ${file#"$root"}: open files and locked memory"
        return
    fi
    if [ -e "$file" ]; then
        failed "${file#"$root"} is there and not ours"
    fi
    record made "$file" ""
    { mkdir -p "$(dirname "$file")" && printf '%s\n' "$text" >"$file"; } || failed "${file#"$root"} cannot be written"
    say "wrote ${file#"$root"}: \`systemctl daemon-reload\` and a restart of $unit make it count"
}

sockets
reserved
if [ -n "$interface" ]; then
    interrupts
    if $xdp; then queues; fi
elif $xdp; then
    failed "--xdp wants an interface"
fi
if [ -n "$unit" ]; then limits; fi
