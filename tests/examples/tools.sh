# Part of tests/examples/run: mio-info and mio-top.
# shellcheck shell=bash disable=SC2154

# -------------------------------------------------------------------------------------------------------- mio-info

if ! [ -x "$info" ]; then
    skip "no mio-info"
else
    try "$patience" "$info" --help
    expect "mio-info --help" 0 "usage: mio-info"
    try "$patience" "$info" --version
    expect "mio-info --version" 0 "mio-info "
    for arguments in "--frobnicate" "--json=1" "epoll" "--json epoll" "-j"; do
        # shellcheck disable=SC2086
        try "$patience" "$info" $arguments
        refuse "mio-info $arguments" "mio-info: "
    done
    try "$patience" "$info"
    expect "mio-info" 0 "kernel.io_uring_disabled"
    # The backend that echo_server got, by its own word.
    backend=$(sed -n 's/^listening on .* (backend \([a-z_]*\))$/\1/p' "$work/server.1")
    expect "mio-info, what AUTO takes" 0 "AUTO takes      $backend"
    try "$patience" env MIO_BACKEND=epoll "$info"
    expect "mio-info, MIO_BACKEND=epoll" 0 "AUTO takes      epoll"
    try "$patience" env MIO_BACKEND=nonsense "$info"
    expect "mio-info, MIO_BACKEND=nonsense" 1 '"nonsense": no backend has this name'
    if [ -c /dev/full ]; then
        timeout "$patience" "$info" >/dev/full 2>"$work/err"
        status=$?
        expect "mio-info, its output cannot be written" 1 "cannot be written"
    else
        skip "no /dev/full"
    fi
    if command -v python3 >/dev/null 2>&1; then
        # A quote, a backslash, control characters, a byte that is no UTF-8.
        hostile=$(printf 'a"b\\c\001\n\302\233\377d')
        try "$patience" env MIO_BACKEND=epoll MIO_URING_MASK="$hostile" "$info" --json
        expect "mio-info --json" 0
        if [ "$(wc -l <"$work/out")" -eq 1 ]; then ok; else bad "mio-info --json: not one line" "$work/out"; fi
        cat >"$work/check.py" <<'END'
import json, sys
found = json.load(open(sys.argv[1], "rb"))
assert found["auto"] == {"backend": "epoll", "verdict": 0, "error": None}, found["auto"]
assert found["environment"]["MIO_URING_MASK"] == 'a"b\\c\x01\n\x9b\ufffdd', found["environment"]
assert {"epoll", "io_uring", "sim"} <= {backend["name"] for backend in found["backends"]}, found["backends"]
assert all((backend["verdict"] == 0) == (backend["error"] is None) for backend in found["backends"])
assert found["limits"]["RLIMIT_NOFILE"]["soft"] > 0, found["limits"]
END
        mv "$work/out" "$work/json"
        try "$patience" python3 "$work/check.py" "$work/json"
        expect "mio-info --json, what it says" 0
    else
        skip "no python3 to parse the JSON"
    fi
fi

# ---------------------------------------------------------------------------------------------- export and mio-top

top=$build/bin/mio-top
if ! [ -x "$top" ]; then
    skip "no mio-top"
else
    for arguments in "--frobnicate" "--delay=0" "--delay=x" "-n 0" "-n 1.5" "-n"; do
        # shellcheck disable=SC2086
        try "$patience" "$top" $arguments
        refuse "mio-top $arguments" "mio-top: "
    done
    try "$patience" "$top" --help
    expect "mio-top --help" 0 "usage: mio-top"
    try "$patience" "$top" --once "$work/not there"
    expect "mio-top, no such file" 1 "not there: "
    try "$patience" "$examples/export" 0
    refuse "export 0" "usage: export"
    start "$examples/export" 60
    if wait_for '^mio-top '; then
        page=${line#mio-top }
        # Of the second look: idle for some of it, and callbacks; unless the program stood still just then.
        for attempt in 1 2 3 4 5; do
            try "$patience" "$top" --delay=0.5 --count=2 "$page"
            ! tail -n 1 "$work/out" | awk -v pid="$pid" '$1 == pid && $2 == "example" && $5 > 10 && $7 + 0 > 20 { good = 1 }
                END { exit !good }' || break
        done
        expect "mio-top" 0 "mio-top "
        if tail -n 1 "$work/out" | awk -v pid="$pid" '$1 == pid && $2 == "example" && $5 > 10 && $7 + 0 > 20 { good = 1 }
            END { exit !good }'; then ok; else bad "mio-top: the loop's line" "$work/out"; fi
        kill -9 "$pid"
        wait "$pid" 2>/dev/null
        pids=${pids% "$pid"}
        try "$patience" "$top" --once "$page"
        expect "mio-top, its program was killed" 0 "0 loops, and files of programs that are gone"
        try "$patience" "$top" --clean "$page"
        expect "mio-top --clean" 0 "1 removed"
        [ ! -e "$page" ] || bad "mio-top --clean left $page"
    else
        bad "export does not start" "$server_out" "$server_out.err"
    fi
    try "$patience" "$examples/export" 0.3
    expect "export" 0 "% asleep"
fi
