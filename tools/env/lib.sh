# shellcheck shell=bash
# What the scripts of this folder share. Messages go to stderr: stdout is for results.

say() { printf '== %s\n' "$*" >&2; }

die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# need_disk FOLDER GB WHAT: stop unless the disk of FOLDER has GB free. $ACON_MM_NEED_GB overrides.
need_disk() {
    local need=${ACON_MM_NEED_GB:-$2} free
    free=$(df -Pk "$1" | awk 'NR == 2 { print int($4 / 1024 / 1024) }')
    ((free >= need)) || die "$3 needs $need GB of disk, and the disk of $1 has $free GB free:" \
        'free some space there, or work on another disk.'
}

# run_logged LOG COMMAND...: run a long command with its output in LOG. Meanwhile say how long it has
# run and, where ninja compiles, how far it is: by a bar that moves on a terminal, else by a line
# every 20 s. Show the end of the log if the command fails.
run_logged() {
    local log=$1 beat status=0
    shift
    heartbeat "$log" 9<&- & # without the lock that setup_env.sh holds
    beat=$!
    # The command stays in the foreground, so that Ctrl-C reaches it.
    "$@" >"$log" 2>&1 </dev/null || status=$?
    # Not SIGTERM: right after its start the subshell still has our EXIT trap and would run it.
    kill -KILL "$beat" 2>/dev/null || true
    wait "$beat" 2>/dev/null || true
    [[ ! -t 2 ]] || printf '\r\033[K' >&2
    if ((status)); then
        tail -n 15 "$log" | cut -c 1-160 | sed 's/^/   | /' >&2
        if grep -q 'No space left on device' "$log"; then
            die "the disk is full: free some space, or set TMPDIR to a larger disk. Log: $log"
        fi
    fi
    return "$status"
}

heartbeat() {
    local log=$1 parent=$$ started=$SECONDS passed
    # A killed run leaves no heartbeat behind: it ends with its parent.
    while sleep 1 >/dev/null 2>&1 && kill -0 "$parent" 2>/dev/null; do
        passed=$((SECONDS - started + 1))
        if [[ -t 2 ]]; then
            printf '\r\033[K   %3d s %s' "$passed" "$(bar "$log")" >&2
        elif ((passed % 20 == 0)); then
            printf '   %3d s %s\n' "$passed" "$(bar "$log")" >&2
        fi
    done
}

# bar LOG: print how many files ninja has compiled, such as [#######-------------] 27/77.
bar() {
    local found width=20 full
    found=$(grep -oE '^\s*\[[0-9]+/[0-9]+\]' "$1" 2>/dev/null | tail -n 1 | tr -d '[] ') || true
    [[ $found ]] || return 0
    full=$((width * ${found%/*} / ${found#*/}))
    printf '[%s%s] %s' "$(printf '%*s' "$full" '' | tr ' ' '#')" \
        "$(printf '%*s' $((width - full)) '' | tr ' ' -)" "$found"
}
