#!/bin/sh
# The library's interface: the header in other people's compilers, and its ABI against the last one
# that was committed (client/kvclient.abi). `api.sh header|abi-check|abi-update [LIBRARY]`
set -eu
cd "$(dirname "$0")/.."
library=${2:-build/lib/libkvclient.so.1}
work=$(mktemp -d "${TMPDIR:-/tmp}/shardkv-api.XXXXXX")
trap 'rm -rf "$work"' EXIT

# Alone, twice, and with everything that it offers used.
header() {
    cat >"$work/use.c" <<'END'
#include "kvclient.h"
#include "kvclient.h"
kv_options options = KV_OPTIONS_INIT;
kv_callopts opts = KV_CALLOPTS_INIT;
int use(kv_client *kv);
int use(kv_client *kv)
{
    kv_stats stats;
    stats.size = sizeof(stats);
    kv_slice key = kv_str("k");
    return kv_get(kv, key, &opts, 0) == KV_OK && kv_get_stats(kv, &stats) == KV_OK;
}
END
    warnings="-pedantic -pedantic-errors -Wall -Wextra -Wshadow -Wconversion -Werror -Iclient"
    # shellcheck disable=SC2086
    for compiler in "gcc -x c -std=c11" "clang -x c -std=c11" "g++ -x c++ -std=c++17" \
        "clang++ -x c++ -std=c++17"; do
        command -v "${compiler%% *}" >/dev/null || continue
        $compiler $warnings -Wno-missing-field-initializers -fsyntax-only "$work/use.c"
        echo "header: clean for $compiler"
    done
}

# What the header says and nothing else: types of our own sources are private.
dump() {
    mkdir -p "$work/include"
    cp client/kvclient.h "$work/include"
    abidw --headers-dir "$work/include" --drop-private-types --exported-interfaces-only \
        --no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed "$library" >"$1"
}

needs_abigail() {
    command -v abidw >/dev/null || {
        echo "abidw is missing: run 'make deps' (package abigail-tools)" >&2
        exit 1
    }
}

case ${1:-} in
header) header ;;
abi-update)
    needs_abigail
    dump client/kvclient.abi
    ;;
abi-check)
    needs_abigail
    dump "$work/now.abi"
    if abidiff --no-default-suppression client/kvclient.abi "$work/now.abi"; then
        echo "abi: as in client/kvclient.abi"
    else
        echo "abi: not that of client/kvclient.abi. What is only added is fine: 'make abi-update' and" >&2
        echo "commit it. Anything else breaks programs that are linked with libkvclient.so.1." >&2
        exit 1
    fi
    ;;
*)
    echo "usage: api.sh header|abi-check|abi-update [LIBRARY]" >&2
    exit 2
    ;;
esac
