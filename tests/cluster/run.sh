#!/bin/sh
# Cluster tests: real processes on loopback. `tests/cluster/run.sh [NAME...]` runs some of them.
exec python3 "$(dirname "$0")/cluster_test.py" "$@"
