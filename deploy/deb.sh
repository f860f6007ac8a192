#!/bin/bash
# Debian packages by plain dpkg-deb: `deploy/deb.sh BUILD VERSION` (`make deb`) leaves them in BUILD/deb.
#
#   shardkv-server   shardd, placementd, units, settings (conffiles), alert rules
#   shardkv-tools    kvctl, kvbench
#   libkvclient1     the library
#   libkvclient-dev  header, static library, pkg-config file
#
# The same sources give the same bytes: SOURCE_DATE_EPOCH (or the last commit) dates every file, lists
# are sorted, all belongs to root. Nothing is enabled or started by an installation, and an update
# restarts nothing: nodes are restarted one after the other (kvctl cluster rolling-restart).
set -euo pipefail
export LC_ALL=C
umask 022
build=$1 version=$2
for tool in dpkg-deb dpkg-shlibdeps dpkg-architecture strip; do
    command -v $tool >/dev/null || { echo "make deb: $tool is missing: run 'make deps'" >&2; exit 1; }
done
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date -r LICENSE +%s)}
export SOURCE_DATE_EPOCH
arch=$(dpkg-architecture -qDEB_HOST_ARCH)
libdir=/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH)
out=$build/deb
rm -rf "$out"
mkdir -p "$out/shlibs/debian"
top=$PWD

make --no-print-directory -s install DESTDIR="$top/$out/all" PREFIX=/usr LIBDIR="$libdir" \
    SYSCONFDIR=/etc/shardkv >"$out/install.log" 2>&1 || { cat "$out/install.log" >&2; exit 1; }

# take PACKAGE PATH...: moves files from what was installed into the package's tree.
take() {
    local package=$1 path
    shift
    for path in "$@"; do
        mkdir -p "$out/$package/$(dirname "$path")"
        mv "$out/all/$path" "$out/$package/$path"
    done
}
take shardkv-server usr/bin/shardd usr/bin/placementd usr/lib/systemd usr/lib/sysusers.d \
    usr/lib/tmpfiles.d usr/share/shardkv usr/share/man/man5 usr/share/man/man8 etc/shardkv
take shardkv-tools usr/bin/kvctl usr/bin/kvbench usr/share/man/man1
take libkvclient1 "${libdir#/}/libkvclient.so.1"
take libkvclient-dev usr/include/kvclient.h "${libdir#/}/libkvclient.so" "${libdir#/}/libkvclient.a" \
    "${libdir#/}/pkgconfig/kvclient.pc" usr/share/man/man3
left=$(find "$out/all" ! -type d)
[ -z "$left" ] || { echo "make deb: in no package: $left" >&2; exit 1; }
rm -rf "$out/all"

for f in shardkv-server/usr/bin/shardd shardkv-server/usr/bin/placementd shardkv-tools/usr/bin/kvctl \
    shardkv-tools/usr/bin/kvbench; do
    strip --strip-unneeded "$out/$f"
done
strip --strip-unneeded "$out/libkvclient1$libdir/libkvclient.so.1"
strip --strip-debug -D "$out/libkvclient-dev$libdir/libkvclient.a"

# What the binaries of a package need, by the libraries they were linked with.
shlibs() {
    local files
    files=$(cd "$out" && find "$1" -type f \( -path '*/bin/*' -o -name '*.so.*' \) -printf '../%p\n')
    # shellcheck disable=SC2086
    (cd "$out/shlibs" && dpkg-shlibdeps -O $files 2>../shlibs.log) | sed -n 's/^shlibs:Depends=//p'
}
printf 'Source: shardkv\n\nPackage: shardkv-server\nArchitecture: any\n' >"$out/shlibs/debian/control"

# package NAME SECTION DEPENDS EXTRA-FIELDS SUMMARY TEXT
package() {
    local name=$1 tree=$out/$1 size
    mkdir -p "$tree/usr/share/doc/$name"
    printf 'shardkv is free software: Copyright its authors.\nLicense: Apache-2.0, see %s\n' \
        /usr/share/common-licenses/Apache-2.0 >"$tree/usr/share/doc/$name/copyright"
    printf 'shardkv (%s) unstable; urgency=medium\n\n  * See the history of the sources.\n\n -- shardkv <root@localhost>  %s\n' \
        "$version" "$(date -R -u -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$tree/usr/share/doc/$name/changelog.gz"
    find "$tree/usr/share/man" -type f -exec gzip -9n {} + 2>/dev/null || true
    mkdir -p "$tree/DEBIAN"
    (cd "$tree" && find . -type f ! -path './DEBIAN/*' -printf '%P\n' | sort | xargs md5sum >DEBIAN/md5sums)
    if [ -d "$tree/etc" ]; then
        (cd "$tree" && find etc -type f -printf '/%p\n' | sort >DEBIAN/conffiles)
    fi
    size=$(du -k -s --apparent-size --exclude=DEBIAN "$tree" | cut -f 1)
    {
        printf 'Package: %s\nSource: shardkv\nVersion: %s\nArchitecture: %s\n' "$name" "$version" "$arch"
        printf 'Maintainer: shardkv <root@localhost>\nInstalled-Size: %s\nSection: %s\n' "$size" "$2"
        printf 'Priority: optional\n'
        [ -z "$3" ] || printf 'Depends: %s\n' "$3"
        [ -z "$4" ] || printf '%s\n' "$4"
        printf 'Description: %s\n%s\n' "$5" "$(printf '%s\n' "$6" | sed 's/^/ /')"
    } >"$tree/DEBIAN/control"
    find "$tree" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group -Zxz --threads-max=1 --build "$tree" \
        "$out/${name}_${version}_$arch.deb" >/dev/null
    echo "$out/${name}_${version}_$arch.deb"
}

mkdir -p "$out/shardkv-server/DEBIAN" "$out/libkvclient1/DEBIAN"
for script in postinst prerm postrm; do
    install -m 755 "deploy/debian/shardkv-server.$script" "$out/shardkv-server/DEBIAN/$script"
done
echo "libkvclient 1 libkvclient1 (>= $version)" >"$out/libkvclient1/DEBIAN/shlibs"
echo 'activate-noawait ldconfig' >"$out/libkvclient1/DEBIAN/triggers"

more='shardkv keeps opaque values under keys, each on several of many machines,
and acknowledges a write only once a majority has it on stable storage.'
# /bin/kill of procps: what the units reload by.
package shardkv-server database "$(shlibs shardkv-server), systemd | systemd-standalone-sysusers, systemd | systemd-standalone-tmpfiles, procps" \
    'Recommends: shardkv-tools' 'replicated, sharded key-value store: the servers' "$more
This package has the servers, shardd and placementd."
package shardkv-tools database "$(shlibs shardkv-tools)" 'Suggests: shardkv-server' \
    'replicated, sharded key-value store: the tools' "$more
This package has kvctl, to use and steer a cluster, and kvbench, to measure it."
package libkvclient1 libs "$(shlibs libkvclient1)" 'Multi-Arch: same' \
    'replicated, sharded key-value store: the client library' "$more
This package has the shared library for programs."
package libkvclient-dev libdevel "libkvclient1 (= $version), libmsgpack-dev, libisal-dev" 'Multi-Arch: same' \
    'replicated, sharded key-value store: to build programs with' "$more
This package has the header, the static library and the pkg-config file."
rm -rf "$out/shlibs"
