"""The samples, mistakes in settings, reloads."""
import os
import re

from common import (TOP, Daemon, check, directory, free_base, placementd_args, run_program,
                    shardd_args)
import signal

NEEDED = {"shardd": ("node.id=n1", "node.data-dir=/nowhere", "cluster.placement=127.0.0.1:9"),
          "placementd": ("node.data-dir=/nowhere",)}
KEY = re.compile(r"^(#?)([a-z-]+) = (.*)$")


def sample(name):
    return os.path.join(TOP, "deploy", "config", name + ".toml")


def read_keys(lines):
    """[(section.key, value, given)]; given: not behind a '#'."""
    out, section = [], ""
    for line in lines:
        if line.startswith("["):
            section = line.strip()[1:-1]
        m = KEY.match(line.rstrip("\n"))
        if m and section:
            out.append((section + "." + m.group(2), m.group(3), not m.group(1)))
    return out


def in_force(name, *args):
    p = run_program(name, *args, "--check-config")
    check(p.returncode == 0, "%s %s: exit %d %s" % (name, args, p.returncode, p.stderr))
    return {k: v for k, v, _ in read_keys(p.stdout.splitlines())}


def samples():
    """The samples are taken as they are; each key of the table is in them once, with its default."""
    total = 0
    for name, needed in NEEDED.items():
        in_force(name, "--config", sample(name))
        with open(sample(name)) as f:
            keys = read_keys(f)
        sets = [x for s in needed for x in ("--set", s)]
        default = in_force(name, *sets)
        names = [k for k, _, _ in keys]
        check(sorted(names) == sorted(set(names)), "%s: a key is there twice" % name)
        check(set(names) == set(default), "%s: the sample lacks %s and has %s" % (
            name, sorted(set(default) - set(names)), sorted(set(names) - set(default))))
        for k, value, given in keys:
            if given:
                continue
            # What is filled in at start (the host's name, processors) is compared after that, too.
            got = in_force(name, *sets, "--set", "%s=%s" % (k, as_argument(value)))
            check(got[k] == default[k], "%s: the default of %s is %s, not %s" % (
                name, k, default[k], value))
        total += len(keys)
    return "%d keys" % total


def as_argument(value):
    if value.startswith("["):
        return ",".join(re.findall(r'"([^"]*)"', value))
    return value


def mistakes():
    """What is wrong is named with file, line and the nearest right name, and the exit code is 2."""
    d = directory()
    path = os.path.join(d, "f.toml")
    cases = (
        ("shardd", "[node]\nid = \"n1\"\ndata-dri = \"/x\"\n", ("f.toml:3", "node.data-dir")),
        ("shardd", "[nod]\nid = \"n1\"\n", ("f.toml:1", "did you mean 'node'")),
        ("shardd", "[node]\nid = \"n1\"\n\n[raft]\nheartbeat = \"soon\"\n",
         ("f.toml:5", "raft.heartbeat")),
        ("shardd", "[node]\nid = \"n1\"\nid = \"n2\"\n", ("f.toml:3", "twice")),
        ("shardd", "[node]\nid = \"n1\"\n[cluster]\nplacement = [\"127.0.0.1:1\"]\n",
         ("node.data-dir is not set", "--set node.data-dir=")),
        ("shardd", "[node]\nid = \"n1\"\ndata-dir = \"/x\"\n[cluster]\nplacement = "
         "[\"127.0.0.1:1\"]\n[rocksdb]\ncompression = \"lzma\"\n", ("rocksdb.compression", "zstd")),
        ("shardd", "[node]\nid = \"n1\"\ndata-dir = \"/x\"\n[cluster]\nplacement = "
         "[\"127.0.0.1:1\"]\n[listen]\nclient = \"10.0.0.1:7001\"\n", ("10.0.0.1:7001", "insecure")),
        ("placementd", "[node]\ndata-dir = \"/x\"\n[placement]\nmax-mvoes = 3\n",
         ("f.toml:4", "placement.max-moves")),
        ("placementd", "[node]\nid = 1\n", ("node.data-dir is not set",)),
        ("placementd", "[node]\ndata-dir = \"/x\"\n[listen]\nhttp = \"10.0.0.1:7103\"\n",
         ("listen.http", "listen.insecure")),
    )
    for name, text, wanted in cases:
        with open(path, "w") as f:
            f.write(text)
        p = run_program(name, "--config", path, "--check-config")
        check(p.returncode == 2 and not p.stdout, "%s: exit %d for\n%s%s" % (name, p.returncode, text,
                                                                            p.stdout))
        for w in wanted:
            check(w in p.stderr, "%s: \"%s\" is not in: %s" % (name, w, p.stderr))
    return "%d files" % len(cases)


def reload_by_signal():
    """SIGHUP: what can be is put into force, the rest is named; a mistake changes nothing."""
    base = free_base(1)
    cases = (
        ("placementd", placementd_args, "placement.max-moves", "3", "node.name", '"other"'),
        ("shardd", shardd_args, "raft.snapshot-rate", '"1MiB"', "node.zone", '"z2"'),
    )
    for name, args, live, live_value, fixed, fixed_value in cases:
        d = directory()
        path = os.path.join(d, "f.toml")

        def write(extra):
            with open(path, "w") as f:
                f.write("log.level = \"info\"\n" + extra)
        write("")
        daemon = Daemon(name, *args(base, os.path.join(d, "data")), config=path)
        daemon.wait("STATUS=")
        daemon.wait_log("ready ")
        for extra, texts in (
                ("%s = %s\n%s = %s\n" % (live, live_value, fixed, fixed_value),
                 ("reload_applied key=" + live, "reload_needs_restart key=" + fixed,
                  "reloaded changed=1 need_restart=1")),
                ("\nlog.levle = \"debug\"\n", ("f.toml:3", "log.level", "reload_refused"))):
            write(extra)
            before = daemon.count()
            daemon.process.send_signal(signal.SIGHUP)
            for text in texts:
                daemon.wait_log(text)
            daemon.wait("RELOADING=1", after=before)
            check(daemon.has("MONOTONIC_USEC=", before), "no MONOTONIC_USEC with RELOADING")
            daemon.wait("READY=1", after=before)
        daemon.stop()
    return ""
