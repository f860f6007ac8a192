#!/bin/sh
# The house rules that a script can check: which room may include which, what names files and
# headers have, how long files and functions are. Prints each offence; exit code 1 if there is one.
set -u
cd "$(dirname "$0")/.." || exit 2
out=$(mktemp) || exit 2
trap 'rm -f "$out"' EXIT

files() {
    git ls-files -co --exclude-standard -- "$@"
}

# room -> the rooms it may include (itself is always allowed)
allowed() {
    case $1 in
    common/base) echo "" ;;
    common/lin) echo "common/base" ;;
    common/meta) echo "common/base" ;;
    common/wire) echo "common/base common/meta" ;;
    common/io) echo "common/base" ;;
    common/net) echo "common/base common/meta common/io common/wire" ;;
    common/wal) echo "common/base common/io" ;;
    common/raft) echo "common/base common/meta common/wire common/io common/net common/wal" ;;
    common/http) echo "common/base common/meta common/wire common/io" ;;
    common/notify) echo "" ;;
    shardd)
        echo "common/base common/meta common/wire common/io common/net common/wal common/raft \
            common/http common/notify" | tr -s ' \n' ' '
        ;;
    placementd)
        echo "common/base common/meta common/wire common/io common/net common/wal common/raft \
            common/http common/notify placementd/plan" | tr -s ' \n' ' '
        ;;
    placementd/plan) echo "common/base common/meta placementd" ;;
    client) echo "common/base common/meta common/wire" ;;
    client/ctl) echo "client common/base common/lin common/wire" ;;
    client/bench) echo "client client/ctl common/base" ;; # playground_file alone
    *) echo "*" ;;
    esac
}

room_of() {
    case $1 in
    common/*/* | placementd/plan/* | client/ctl/* | client/bench/* | tests/*/*) echo "$1" | cut -d/ -f1-2 ;;
    *) echo "${1%%/*}" ;;
    esac
}

check_includes() {
    room=$(room_of "$1")
    may=$(allowed "$room")
    [ "$may" = "*" ] && return
    sed -n 's/^#include "\([^"]*\)".*/\1/p' "$1" | while read -r inc; do
        case $inc in
        */*) ;;
        *)
            echo "$1: includes \"$inc\" without its room"
            continue
            ;;
        esac
        to=$(room_of "$inc")
        [ "$to" = "$room" ] && continue
        case " $may " in
        *" $to "*) ;;
        *) echo "$1: $room may not include $to (\"$inc\")" ;;
        esac
    done
}

# The kernel, the engine and libraft each have one room.
check_system() {
    case $1 in
    common/io/* | common/http/* | client/* | tests/* | */main.c | shardd/server.c) ;;
    *)
        grep -nE '^#include <(liburing|sys/socket|sys/epoll|netinet/|arpa/|poll)' "$1" |
            sed "s|^|$1:|; s|\$| : only common/io talks to the kernel|"
        ;;
    esac
    case $1 in
    shardd/engine_rocksdb* | tests/*) ;;
    *) grep -nE '^#include <rocksdb' "$1" | sed "s|^|$1:|; s|\$| : only the engine uses RocksDB|" ;;
    esac
    case $1 in
    common/raft/* | tests/*) ;;
    *) grep -nE '^#include <raft' "$1" | sed "s|^|$1:|; s|\$| : only common/raft uses libraft|" ;;
    esac
}

check_pure() {
    case $1 in
    common/io/* | common/http/* | common/notify/* | common/base/log.c) return ;;
    client/* | tests/* | */main.c | shardd/server.c | shardd/supervisor.c) return ;;
    esac
    grep -nE '(^|[^a-z_])(rand|random|time|clock_gettime|gettimeofday|usleep|sleep)\(' "$1" |
        grep -vE '^[0-9]+: *(\*|/\*|//)' |
        sed "s|^|$1:|; s|\$| : time and chance come in through io.h|"
}

check_words() {
    grep -nE '(^|[^A-Z_])(TODO|FIXME|XXX|HACK)([^A-Z_X]|$)' "$1" | sed "s|^|$1:|; s|\$| : finish it or leave it out|"
    lines=$(wc -l <"$1")
    [ "$lines" -gt 600 ] && echo "$1: $lines lines, 600 at most"
    awk -v file="$1" '/^\{$/ { from = NR }
        /^\}/ { if (from && NR - from >= 70) print file ":" from ": a function of " NR - from + 1 " lines, 70 at most"
                from = 0 }' "$1"
}

check_header() {
    head -n 1 "$1" | grep -q '^/\*' || echo "$1: a header opens with what it is"
    grep -qE '^#ifndef [A-Z0-9_]+_H$' "$1" || echo "$1: no include guard"
}

for f in $(files '*.c' '*.h'); do
    [ -f "$f" ] || continue
    check_includes "$f"
    check_system "$f"
    check_pure "$f"
    check_words "$f"
    case $f in *.h) check_header "$f" ;; esac
done >"$out"

for f in $(files 'tests/unit/*.c'); do
    case ${f##*/} in
    test_*.c) ;;
    *) [ -f "$f" ] && grep -q 'int main(' "$f" && echo "$f: a test is called test_<stem>.c" ;;
    esac
done >>"$out"

if [ -s "$out" ]; then
    cat "$out"
    echo "tidy: $(wc -l <"$out") offences"
    exit 1
fi
echo "tidy: clean"
