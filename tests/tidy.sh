#!/bin/sh
# The dependencies between rooms point one way: fails on an #include of ours that the table does
# not allow, and on libraries used outside the room that owns them.
set -eu
cd "$(dirname "$0")/.."

git ls-files -co --exclude-standard '*.c' '*.h' | awk '
BEGIN {
    allow["common/base"] = "common/base"
    allow["common/meta"] = allow["common/base"] " common/meta"
    allow["common/wire"] = allow["common/meta"] " common/wire"
    allow["common/io"] = "common/base common/io"
    allow["common/net"] = "common/base common/io common/wire common/meta common/net"
    allow["common/wal"] = "common/base common/io common/wal"
    allow["common/raft"] = "common/base common/meta common/wire common/io common/net common/wal common/raft"
    common = allow["common/raft"]
    allow["shardd"] = common " shardd"
    allow["placementd"] = common " placementd placementd/plan"
    allow["placementd/plan"] = "common/base common/meta placementd/plan placementd"
    allow["client"] = "common/base common/meta common/wire client"
    allow["client/ctl"] = "common/base client client/ctl"
    allow["client/bench"] = "common/base client client/bench"
    # Libraries, and who may include them.
    library["raft.h"] = "^common/raft/"
    library["rocksdb/c.h"] = "^shardd/engine_rocksdb.c$"
    library["liburing.h"] = "^common/io/uring_"
    library["msgpack.h"] = "^common/wire/"
}
function folder(path) { sub(/\/[^\/]*$/, "", path); return path }
{
    file = $0
    from = folder(file)
    if (from ~ /^tests/)
        next
    if (!(from in allow)) {
        print file ": no rule for this folder in tests/tidy.sh"
        bad = 1
        next
    }
    line = 0
    while ((getline text < file) > 0) {
        line++
        if (text !~ /^#include/)
            continue
        n = split(text, part, /[<>"]/)
        name = part[2]
        if (text ~ /"/) {
            to = folder(name)
            if (index(" " allow[from] " ", " " to " ") == 0) {
                print file ":" line ": " from " may not include " name
                bad = 1
            }
        } else if (name in library && file !~ library[name]) {
            print file ":" line ": only " library[name] " may include <" name ">"
            bad = 1
        }
    }
    close(file)
}
END { exit bad }
'
