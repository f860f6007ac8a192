#!/bin/sh
# `make quickstart`: a local cluster of 3 placementd and 3 shardd, used and shown. Everything lives
# in ./run; stop it with `build/bin/kvctl playground stop`.
set -eu
KVCTL=${KVCTL:-build/bin/kvctl}

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
run() {
    say "kvctl $*"
    "$KVCTL" "$@"
}

run playground start
run put greeting "hello, shardkv"
run get greeting
run playground stop n2
echo "(n2 is stopped: two of three replicas of each group go on)"
run get greeting
run playground start n2
run status
cat <<END

It works. Go on with:
  $KVCTL put KEY VALUE | get KEY | del KEY | locate KEY | shell
  $KVCTL status | nodes | groups
  build/bin/kvbench --clients 64 --seconds 5
Stop it (the data stays):   $KVCTL playground stop
Remove it altogether:       $KVCTL playground destroy --yes
END
