#!/bin/sh
# Tests of deploy/: `tests/deploy/run.sh [NAME...]` runs some of them.
exec python3 "$(dirname "$0")/deploy_test.py" "$@"
