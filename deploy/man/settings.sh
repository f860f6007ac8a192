#!/bin/sh
# The page of the settings, shardkv.toml(5), in scdoc's language: made of the samples, whose comments
# say what each key means. `deploy/man/settings.sh shardd.toml placementd.toml`
set -eu
cat <<'END'
shardkv.toml(5) "" "shardkv"

# NAME

shardkv.toml - settings of shardd(8) and placementd(8)

# SYNOPSIS

_/etc/shardkv/shardd.toml_, _/etc/shardkv/shardd@NAME.toml_, _/etc/shardkv/placementd.toml_

# DESCRIPTION

A subset of TOML: sections, dotted keys, strings, integers, booleans and lists of strings. Sizes are
"64MiB", "10MB" or bytes; times are "500ms", "10s", "2m", "1h" or milliseconds. An unknown key is an
error with the line's number and the nearest known one. Every key can also be given on the command
line, as _--set section.key=value_, which wins over the file. *--check-config* checks a file and
prints what would be in force.

Keys marked (R) are put into force by SIGHUP (*systemctl reload*); of others that have changed the log
says that they need a restart. A file with a mistake changes nothing.
END
for f in "$@"; do
    name=${f##*/}
    printf '\n# KEYS OF %s\n' "$(echo "${name%.toml}" | tr '[:lower:]' '[:upper:]')"
    awk '
        function plain(s) { gsub(/\\/, "\\\\", s); gsub(/[*_`]/, "\\\\&", s); return s }
        /^\[/ { section = substr($0, 2, length($0) - 2); comment = ""; next }
        /^# / && section { comment = comment (comment ? " " : "") substr($0, 3); next }
        /^$/ { comment = ""; next }
        /^#?[a-z-]+ = / {
            key = $1; sub(/^#/, "", key)
            value = $0; sub(/^[^=]*= /, "", value)
            what = $0 ~ /^#/ ? "default" : "in the sample"
            printf "\n*%s.%s* (%s: %s)\n\t%s\n", section, key, what, plain(value), plain(comment)
        }' "$f"
done
cat <<'END'

# SEE ALSO

*shardd*(8), *placementd*(8), *kvctl*(1)
END
