#!/bin/sh
# The page kvctl(1) in scdoc's language, made of the program's own help: every command is in it.
# `deploy/man/kvctl.sh build/bin/kvctl`
set -eu
kvctl=$1
plain() { sed 's/\\/\\\\/g; s/[][*_`<#~.]/\\&/g; s/^-/\\-/'; }
commands() { "$kvctl" --help | sed -n '/^usage/,/^options/ s/^  \([a-z][a-z -]*[a-z]\)  .*/\1/p'; }

cat <<'END'
kvctl(1) "" "shardkv"

# NAME

kvctl - look at and steer a shardkv cluster

# SYNOPSIS

*kvctl* [_OPTION_]... _COMMAND_ [_ARGUMENT_]...

# DESCRIPTION

Reads and writes keys, shows how a cluster does and why, and changes it: nodes are drained and removed,
groups split, merged and moved. What would take quorum, space or spread away is refused with the
reason; *--plan* and *--dry-run* show first what would be done. Long work goes on without kvctl: ^C
only detaches. *shell* reads commands with history and completion.

# OPTIONS

END
"$kvctl" --help | sed -n '/^options/,/^$/p' | sed -n 's/^  \(-.*[^ ]\)   *\([^ ].*\)$/\1\t\2/p' |
    plain | while IFS='	' read -r option text; do
    printf '*%s*\n\t%s\n\n' "$option" "$text"
done
printf '# COMMANDS\n\n'
commands | while read -r command; do
    # shellcheck disable=SC2086
    help=$("$kvctl" $command --help | plain)
    printf '*%s*%s\n' "$command" "$(printf '%s\n' "$help" | sed -n "s/^usage: kvctl $command//p")"
    printf '\t%s\n' "$(printf '%s\n' "$help" | sed -n "1s/^kvctl $command - //p")"
    printf '%s\n' "$help" | sed '1,/^usage/d' | awk '
        { sub(/^ +/, "") }
        /./ { if (!n++ || /^(\\-|[a-z]+  )/) print ""; print "\t" $0 }'
    printf '\n'
done
cat <<'END'
# ENVIRONMENT

KV_URL
	Where the cluster is, unless *--url* says: addresses of placementd, of nodes, or both.

NO_COLOR
	No colours.

# EXIT CODES

END
"$kvctl" --help | sed -n '/^exit codes/,$p' | sed 's/^exit codes: //' | plain
cat <<'END'

# EXAMPLES

```
kvctl playground start
kvctl put greeting hello
kvctl status
kvctl node drain n2 --plan
kvctl cluster rolling-restart --command 'ssh {host} systemctl restart shardd'
```

# SEE ALSO

*kvbench*(1), *shardd*(8), *placementd*(8)
END
