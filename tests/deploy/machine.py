"""The packages on a machine with systemd: in namespaces of their own, so that nothing of this machine
is touched. Skipped where such a machine cannot be made."""
import glob
import os
import shutil
import subprocess
import time

from common import HERE, Skipped, check, directory, needed, root_needed, wait_until
from packages import built

SYSTEMD = "/lib/systemd/systemd"


def cgroup2():
    """Where this process is in the version 2 hierarchy, as a path."""
    with open("/proc/mounts") as f:
        mounts = [line.split() for line in f]
    top = next((m[1] for m in mounts if m[2] == "cgroup2"), None)
    with open("/proc/self/cgroup") as f:
        own = next((line.strip()[3:] for line in f if line.startswith("0::")), None)
    if not top or not own:
        raise Skipped("there is no cgroup of version 2 here")
    return top + own.rstrip("/")


def remove_cgroup(path):
    for d, _, _ in sorted(os.walk(path), reverse=True):
        for _ in range(50):
            try:
                os.rmdir(d)
                break
            except OSError:
                time.sleep(0.02)


def run_machine():
    """Runs machine_test.sh there; its lines as {word: text}."""
    top = directory()
    room = os.path.join(top, "room")
    os.makedirs(os.path.join(top, "mnt"))
    os.mkdir(room)
    for deb in built().values():
        shutil.copy(deb, room)
    shutil.copy(os.path.join(HERE, "machine_test.sh"), os.path.join(room, "test"))
    cgroup = os.path.join(cgroup2(), "shardkv-deploy-%d" % os.getpid())
    try:
        os.mkdir(cgroup)
    except OSError as e:
        raise Skipped("no cgroup can be made here: %s" % e) from None
    out = os.path.join(room, "out")
    open(out, "w").close()
    machine = None

    def text():
        with open(out, errors="replace") as f:
            return f.read()
    try:
        machine = subprocess.Popen([os.path.join(HERE, "machine.sh"), top, cgroup],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        end = time.monotonic() + 20
        while "begin" not in text():
            if machine.poll() is not None:
                raise Skipped("no machine of its own can be made here: %s" % (
                    machine.stderr.read().strip()[-200:]))
            if time.monotonic() > end:
                raise Skipped("systemd does not come up in namespaces here")
            time.sleep(0.1)
        wait_until(lambda: "the end of:\n%s" % text(), lambda: "\nend\n" in text(), 90)
        return dict(line.split(": ", 1) for line in text().splitlines() if ": " in line), text()
    finally:
        if machine and machine.poll() is None:
            machine.kill()
        if machine:
            machine.wait()
            machine.stderr.close()
        remove_cgroup(cgroup)


def lives():
    """Installed, enabled, ready, reloaded, killed and restarted, not restarted with a mistake in the
    settings, a second node, removed with the data kept: all under the hardened units."""
    root_needed()
    needed("unshare", "dpkg", "systemctl")
    if not os.path.exists(SYSTEMD):
        raise Skipped("there is no systemd here")
    said, text = run_machine()
    if said.get("control", "").strip() != "0":
        raise Skipped("a sandboxed service of no matter what does not run here: %s" % text[:300])
    for word, wanted in (
            ("dpkg", "0"), ("started", "active active"), ("status", "leader"), ("status", "serving"),
            ("init", "2 groups"), ("put", "ok"), ("sandbox", "CapEff:\t0000000000000000"),
            ("sandbox", "NoNewPrivs:\t1"), ("sandbox", "Seccomp:\t2"), ("reloaded", "active"),
            ("reload_log", "reload_applied key=log.level"),
            ("reload_log", "reload_needs_restart key=node.zone"), ("warnings", "reload_needs_restart"),
            ("restarted", "b"),
            ("killed", "active"), ("killed", "1"), ("after_kill", "b"), ("mistake", "failed"),
            ("mistake", "2"), ("instance", "active"), ("modes", "/var/lib/shardkv/shardd 700 shardkv"),
            ("modes", "/var/lib/shardkv/shardd@two 700 shardkv"), ("nodes", "n2"), ("removed", "0"),
            ("data", "placementd shardd shardd@two")):
        check(word in said and wanted in said[word], "%s: no \"%s\" in\n%s" % (word, wanted, text))
    check("reload_applied" not in said["warnings"], "priorities in the journal: %s" % said["warnings"])
    stopped = said["stopped"].split()
    check(stopped == ["inactive", "success"] * 3 or stopped == ["success", "inactive"] * 3,
          "stopped: %s" % stopped)
    check(not glob.glob("/sys/fs/cgroup/**/shardkv-deploy-%d" % os.getpid()), "a cgroup is left")
    return "under systemd"
