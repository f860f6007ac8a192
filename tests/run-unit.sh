#!/bin/sh
# Runs Check binaries; prints each one's closing line, the whole output of one that fails, and a
# total. Each test gets a fresh temporary directory as TEST_TMP, removed afterwards.
set -u
failed=0
passed=0
for t in "$@"; do
    TEST_TMP=$(mktemp -d "${TMPDIR:-/tmp}/shardkv-unit.XXXXXX")
    export TEST_TMP
    if out=$(timeout 300 "$t" 2>&1); then
        passed=$((passed + 1))
        printf '  ok    %s: %s\n' "${t##*/}" "$(printf '%s\n' "$out" | grep -E '^[0-9]+%' | tail -n 1)"
    else
        failed=$((failed + 1))
        printf '  FAIL  %s\n%s\n' "$t" "$out"
    fi
    rm -rf "$TEST_TMP"
done
echo "unit: $passed passed, $failed failed"
[ "$failed" = 0 ]
