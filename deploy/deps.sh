#!/bin/sh
# Installs the Debian packages that shardkv builds, tests and runs with (`make deps`).
#
# Quiet when nothing is missing. Works as root or through sudo. libraft-dev >= 0.22 is needed
# (0.15 of Debian 12 has safety bugs); where no configured suite offers it, the backports suite
# is added from the machine's own Debian source.
set -eu

PACKAGES="gcc make pkg-config clang clang-format clang-tidy libclang-rt-dev shellcheck
  librocksdb-dev liburing-dev libmsgpack-dev check libisal-dev libsmartcols-dev libjansson-dev
  libedit-dev libxxhash-dev libmicrohttpd-dev libsystemd-dev dpkg-dev scdoc man-db systemd python3 python3-msgpack procps e2fsprogs
  g++ abigail-tools libuv1-dev"
PACKAGES="$PACKAGES $*" # extra ones by argument: what only `make bench` needs
RAFT_MIN=0.22
LIST=/etc/apt/sources.list.d/shardkv-backports.list

installed() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }
raft_ok() {
    dpkg --compare-versions "$(dpkg-query -W -f '${Version}' libraft-dev 2>/dev/null || echo 0)" \
        ge "$RAFT_MIN"
}

missing=""
for p in $PACKAGES; do
    installed "$p" || missing="$missing $p"
done
if [ -z "$missing" ] && raft_ok; then
    exit 0
fi

command -v apt-get >/dev/null || {
    # shellcheck disable=SC2086
    echo "make deps: this is not Debian; install by hand:" $PACKAGES "libraft-dev >= $RAFT_MIN" >&2
    exit 1
}
if [ "$(id -u)" = 0 ]; then
    as_root() { "$@"; }
elif command -v sudo >/dev/null; then
    as_root() { sudo "$@"; }
else
    echo "make deps: needs root or sudo to install:$missing libraft-dev" >&2
    exit 1
fi
# RUNLEVEL=1: an installed service (redis-server) is not started.
apt() { as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -o DPkg::Lock::Timeout=300 "$@"; }

echo "make deps: installing${missing:-} libraft-dev (>= $RAFT_MIN)"
apt -qq update

raft_candidate() { apt-cache madison libraft-dev | awk '{print $3}' | sort -rV | head -n 1; }
if ! raft_ok && ! dpkg --compare-versions "$(raft_candidate)" ge "$RAFT_MIN"; then
    # shellcheck disable=SC1091
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    # shellcheck disable=SC2016
    uri=$(apt-get indextargets --format '$(SITE) $(SUITE) $(ORIGIN)' 2>/dev/null |
        awk '$3 == "Debian" && $1 !~ /security/ {print $1; exit}')
    [ -n "$uri" ] || uri=$(awk '/^URIs:/ {print $2; exit} /^deb / {print $2; exit}' \
        /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null)
    echo "make deps: adding $codename-backports from $uri"
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$keyring] $uri $codename-backports main" | as_root tee "$LIST" >/dev/null
    apt -qq update
fi
# shellcheck disable=SC2086
[ -z "$missing" ] || apt -qq install -y --no-install-recommends $missing >/dev/null
if ! raft_ok; then
    version=$(raft_candidate)
    apt -qq install -y --no-install-recommends "libraft-dev=$version" \
        "$(apt-cache show "libraft-dev=$version" | sed -n 's/^Depends:.*\(libraft[0-9][a-z0-9]*\) (= .*/\1/p' | head -n 1)=$version" \
        >/dev/null
fi
raft_ok || { echo "make deps: libraft-dev >= $RAFT_MIN is not to be had from apt" >&2; exit 1; }
echo "make deps: done"
