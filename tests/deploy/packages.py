"""make install, make deb, man pages."""
import glob
import hashlib
import os
import re
import shutil

from common import (BIN, TOP, check, directory, make, must, needed, root_needed, run, run_program)
from settings import read_keys, sample
from units import installed_tree

INSTALLED = """usr/bin/shardd usr/bin/placementd usr/bin/kvctl usr/bin/kvbench usr/include/kvclient.h
    usr/lib/libkvclient.so.1 usr/lib/libkvclient.so usr/lib/libkvclient.a usr/lib/pkgconfig/kvclient.pc
    usr/lib/systemd/system/shardd.service usr/lib/systemd/system/shardd@.service
    usr/lib/systemd/system/placementd.service usr/lib/systemd/system/shardkv.target
    usr/lib/sysusers.d/shardkv.conf usr/lib/tmpfiles.d/shardkv.conf etc/shardkv/shardd.toml
    etc/shardkv/placementd.toml usr/share/shardkv/prometheus/shardkv.rules.yml
    usr/share/man/man1/kvctl.1 usr/share/man/man1/kvbench.1 usr/share/man/man5/shardkv.toml.5
    usr/share/man/man3/kvclient.3 usr/share/man/man8/shardd.8 usr/share/man/man8/placementd.8""".split()
PACKAGES = ("shardkv-server", "shardkv-tools", "libkvclient1", "libkvclient-dev")


def installed():
    """make install: all of it, nothing beside the prefix; settings are kept; a program builds
    against it by pkg-config."""
    top = installed_tree()
    found = {os.path.relpath(os.path.join(d, f), top) for d, _, files in os.walk(top) for f in files}
    check(set(INSTALLED) <= found, "not installed: %s" % sorted(set(INSTALLED) - found))
    check(found == set(INSTALLED), "not expected: %s" % sorted(found - set(INSTALLED)))
    with open(os.path.join(top, "etc/shardkv/shardd.toml"), "a") as f:
        f.write("# mine\n")
    make("install", "DESTDIR=" + top, "PREFIX=/usr", "SYSCONFDIR=/etc/shardkv")
    with open(os.path.join(top, "etc/shardkv/shardd.toml")) as f:
        check(f.read().endswith("# mine\n"), "settings of the operator were overwritten")
    source = os.path.join(directory(), "t.c")
    with open(source, "w") as f:
        f.write("#include <kvclient.h>\n#include <stdio.h>\n"
                "int main(void) { return puts(kv_version()) < 0; }\n")
    env = dict(os.environ, PKG_CONFIG_SYSROOT_DIR=top,
               PKG_CONFIG_LIBDIR=os.path.join(top, "usr/lib/pkgconfig"))
    flags = must("pkg-config", "--cflags", "--libs", "kvclient", env=env).stdout.split()
    must("gcc", source, "-o", source[:-2], *flags)
    p = must(source[:-2], env=dict(os.environ, LD_LIBRARY_PATH=os.path.join(top, "usr/lib")))
    version = run_program("kvctl", "--version").stdout.split()[-1]
    check(p.stdout.strip() == version, "kv_version %s, kvctl %s" % (p.stdout, version))
    return "%d files" % len(found)


def built():
    make("deb")
    build = os.path.dirname(os.path.abspath(BIN))
    debs = {os.path.basename(d).split("_")[0]: d for d in glob.glob(build + "/deb/*.deb")}
    check(set(debs) == set(PACKAGES), "packages: %s" % sorted(debs))
    return debs


def digest(debs):
    out = {}
    for name, path in debs.items():
        with open(path, "rb") as f:
            out[name] = hashlib.sha256(f.read()).hexdigest()
    return out


def debs():
    """make deb: twice the same bytes; dpkg installs, configures, removes and purges them in a root of
    their own with this machine's list of packages; the programs run from there."""
    needed("dpkg-deb", "dpkg-shlibdeps")
    first = digest(built())
    debs_ = built()
    check(first == digest(debs_), "not the same bytes the second time")
    fields = must("dpkg-deb", "-f", debs_["shardkv-server"], "Depends").stdout
    for library in ("libc6", "librocksdb", "libraft0", "liburing2", "libsystemd0", "systemd"):
        check(library in fields, "shardkv-server does not depend on %s: %s" % (library, fields))
    root_needed()
    root = directory()
    os.makedirs(os.path.join(root, "var/lib/dpkg/info"))
    os.makedirs(os.path.join(root, "var/lib/dpkg/updates"))
    os.makedirs(os.path.join(root, "etc"))
    shutil.copy("/var/lib/dpkg/status", os.path.join(root, "var/lib/dpkg/status"))
    dpkg = ("dpkg", "--root=" + root, "--force-script-chrootless", "--no-triggers",
            "--log=" + os.path.join(root, "log"))
    must(*dpkg, "-i", *debs_.values())
    p = must("dpkg-query", "--admindir=" + root + "/var/lib/dpkg", "-W", "-f", "${Package} "
             "${db:Status-Status}\n", *PACKAGES)
    check(p.stdout.count(" installed\n") == 4, p.stdout)
    must(*dpkg, "--verify", *PACKAGES)
    for name in ("shardd", "placementd", "kvctl", "kvbench"):
        must(os.path.join(root, "usr/bin", name), "--version")
    for name in ("shardd", "placementd"):
        must(os.path.join(root, "usr/bin", name), "--config",
             os.path.join(root, "etc/shardkv/%s.toml" % name), "--check-config")
    check(os.path.isdir(os.path.join(root, "var/lib/shardkv/shardd")), "postinst made no directory")
    must(*dpkg, "-i", debs_["shardkv-server"])  # over itself: an update
    with open(os.path.join(root, "var/lib/shardkv/shardd/data"), "w"):
        pass
    must(*dpkg, "--purge", *PACKAGES)
    check(os.path.exists(os.path.join(root, "var/lib/shardkv/shardd/data")), "purge deleted data")
    check(not os.path.exists(os.path.join(root, "etc/shardkv/shardd.toml")), "settings left")
    check(not os.path.exists(os.path.join(root, "usr/bin/shardd")), "programs left")
    return "%d KiB" % (sum(os.path.getsize(d) for d in debs_.values()) // 1024)


def manual():
    """Every page renders without a warning; each command of kvctl, key and function is in its
    page."""
    needed("man", "scdoc")
    top = os.path.join(installed_tree(), "usr/share/man")
    pages = sorted(glob.glob(top + "/man*/*"))
    text = {}
    for page in pages:
        p = run("man", "--warnings", "-l", page, env=dict(os.environ, MANWIDTH="1000", LC_ALL="C.UTF-8",
                                                          PAGER="cat", MANPAGER="cat"))
        check(p.returncode == 0 and not p.stderr, "%s: %s" % (page, p.stderr))
        if shutil.which("groff"):
            p2 = run("groff", "-ww", "-man", "-Tutf8", "-z", page)
            check(p2.returncode == 0 and not p2.stderr, "%s: %s" % (page, p2.stderr))
        text[os.path.basename(page)] = p.stdout
    helped = run_program("kvctl", "--help").stdout.split("\n\n")[2]
    for line in helped.splitlines():
        command = line[2:24].strip()
        check(command and command in text["kvctl.1"], "kvctl(1) lacks \"%s\"" % command)
    for name in ("shardd", "placementd"):
        with open(sample(name)) as f:
            for key, _, _ in read_keys(f):
                check(key in text["shardkv.toml.5"], "shardkv.toml(5) lacks %s" % key)
    with open(os.path.join(TOP, "client/kvclient.h")) as f:
        for function in re.findall(r"^KV_API [^(]*?(kv_[a-z_]+)\(", f.read(), re.M):
            check(function in text["kvclient.3"], "kvclient(3) lacks %s" % function)
    for word in text["shardd.8"], text["placementd.8"]:
        check("SIGHUP" in word and "EXIT CODES" in word, "a daemon's page lacks signals or codes")
    return "%d pages" % len(pages)
