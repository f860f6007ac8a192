#!/bin/sh
# The page kvbench(1) in scdoc's language, made of the program's own help.
# `deploy/man/kvbench.sh build/bin/kvbench`
set -eu
cat <<'END'
kvbench(1) "" "shardkv"

# NAME

kvbench - load generator of shardkv

# SYNOPSIS

*kvbench* [*--url* _URL_] [_OPTION_]...

# DESCRIPTION

Puts and gets keys of a cluster and prints throughput, latencies (median, 99 and 99.9 percent,
longest), errors and outcomes that are not known. With *--rate* latencies count from the moment at
which an operation should have begun, so that a stall is not hidden. It can write each operation to a
file, for a checker of linearizability.

# OPTIONS

END
"$1" --help | sed '1,/^usage/d' | sed 's/\\/\\\\/g; s/[][*_`<#~.]/\\&/g' | awk '
    /^  -/ { i = match(substr($0, 3), /  +/); if (!i) i = length($0)
             printf "\n*%s*\n", substr($0, 3, i - 1)
             text = substr($0, i + 2); sub(/^ +/, "", text); printf "\t%s\n", text; next }
    /^ +/ { sub(/^ +/, ""); printf "\t%s\n", $0 }'
cat <<'END'

# EXIT CODES

0 done; 2 usage; 3 the cluster is not reachable; 6 no operation succeeded, or the history could not be written.

# EXAMPLES

```
kvbench --clients 64 --seconds 10 --reads 90 --dist zipfian
kvbench --rate 20000 --seconds 60 -o json
```

# SEE ALSO

*kvctl*(1)
END
