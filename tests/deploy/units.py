"""The units by systemd's own tools, users and directories, and why a daemon ends."""
import ctypes
import os
import re
import shutil
import socket
import stat
import struct

from common import (BIN, TOP, Skipped, check, directory, free_base, make, must, needed, placementd_args,
                    program, root_needed, run, shardd_args, run_program)

SERVICES = ("shardd.service", "shardd@.service", "placementd.service")
EXPOSURE_MAX = 1.5
tree = []


def installed_tree():
    """The tree of `make install PREFIX=/usr`, made once."""
    if not tree:
        d = directory()
        make("install", "DESTDIR=" + d, "PREFIX=/usr", "SYSCONFDIR=/etc/shardkv")
        tree.append(d)
    return tree[0]


def units_here():
    """The units as installed, but with programs where they are now: {name: path}."""
    top = installed_tree()
    d = directory()
    out = {}
    for name in SERVICES + ("shardkv.target",):
        with open(os.path.join(top, "usr/lib/systemd/system", name)) as f:
            text = f.read()
        check("@" not in text.replace("@system-service", "").replace("@privileged", "").replace(
            "@resources", "").replace("shardd@", "").replace("@aio", ""),
            "%s: something was not filled in" % name)
        out[name] = os.path.join(d, name.replace("@.", "@one."))
        with open(out[name], "w") as f:
            f.write(text.replace("/usr/bin/", os.path.abspath(BIN) + "/"))
    return out


def verified():
    """systemd-analyze verify has nothing to say, not even on stderr; the man pages are there."""
    needed("systemd-analyze", "man")
    env = dict(os.environ, MANPATH=os.path.join(installed_tree(), "usr/share/man"))
    for name, path in units_here().items():
        p = run("systemd-analyze", "verify", "--man=yes", path, env=env)
        check(p.returncode == 0 and not p.stdout and not p.stderr, "%s: exit %d\n%s%s" % (
            name, p.returncode, p.stdout, p.stderr))
    return "%d units" % len(units_here())


def hardened():
    """systemd-analyze security: at most 1.5, and io_uring stays allowed."""
    needed("systemd-analyze")
    worst = 0.0
    for name, path in units_here().items():
        if not name.endswith(".service"):
            continue
        p = must("systemd-analyze", "security", "--offline=true", "--no-pager", path)
        m = re.search(r"Overall exposure level for .*: ([0-9.]+)", p.stdout)
        check(m, "no exposure in %s" % p.stdout[-500:])
        check(not p.stderr, "%s: %s" % (name, p.stderr))
        worst = max(worst, float(m.group(1)))
        check(worst <= EXPOSURE_MAX, "%s: %s" % (name, m.group(0)))
    calls = must("systemd-analyze", "syscall-filter", "@system-service", "@aio").stdout
    for call in ("io_uring_setup", "io_uring_enter", "io_uring_register"):
        check(call in calls, "%s is not in the unit's SystemCallFilter" % call)
    return "exposure %.1f" % worst


def users_and_directories():
    """sysusers.d and tmpfiles.d in an empty root: the user, its directories, their modes."""
    needed("systemd-sysusers", "systemd-tmpfiles")
    root_needed()
    root = directory()
    shutil.copytree(os.path.join(installed_tree(), "usr/lib"), os.path.join(root, "usr/lib"),
                    symlinks=True)
    os.mkdir(os.path.join(root, "etc"))
    p = must("systemd-sysusers", "--root=" + root, "shardkv.conf")
    with open(os.path.join(root, "etc/passwd")) as f:
        users = [line.split(":") for line in f if line.startswith("shardkv:")]
    check(len(users) == 1 and users[0][6].strip() == "/usr/sbin/nologin", "%s %s" % (users, p.stderr))
    must("systemd-tmpfiles", "--root=" + root, "--create", "shardkv.conf")
    for path, mode, owner in (("var/lib/shardkv", 0o755, 0),
                              ("var/lib/shardkv/shardd", 0o700, int(users[0][2])),
                              ("var/lib/shardkv/placementd", 0o700, int(users[0][2])),
                              ("etc/shardkv", 0o755, 0)):
        s = os.stat(os.path.join(root, path))
        check((stat.S_IMODE(s.st_mode), s.st_uid) == (mode, owner), "%s: mode %o, owner %d" % (
            path, stat.S_IMODE(s.st_mode), s.st_uid))
    return ""


# ---- why a daemon ends ----

def ends(name, sets, code, *texts, **kw):
    args = [x for s in sets for x in ("--set", s)]
    p = run_program(name, *args, seconds=15, **kw)
    said = p.stdout + p.stderr
    check(p.returncode == code, "%s: exit %d, not %d: %s" % (name, p.returncode, code, said))
    for text in texts:
        check(text in said, "%s: \"%s\" is not named: %s" % (name, text, said))


def exit_codes():
    """1 may pass, 2 is configuration, 4 is data; the unit does not repeat 2, 3 and 4."""
    for name in SERVICES:
        with open(os.path.join(TOP, "deploy/systemd", name + ".in")) as f:
            check("\nRestartPreventExitStatus=2 3 4\n" in f.read(), "%s: what is not repeated" % name)
    base = free_base(1)
    held = socket.socket()
    held.bind(("127.0.0.1", base + 1))
    held.listen(1)
    for name, make_args in (("shardd", shardd_args), ("placementd", placementd_args)):
        top = directory()
        data = os.path.join(top, "data")
        taken = "127.0.0.1:%d" % (base + 1)
        for key in ("client", "peer", "http"):
            args = make_args(base, data) + ("listen.%s=%s" % (key, taken),)
            if (name, key) == ("placementd", "peer"):
                args += ("cluster.members=1=" + taken,)
            ends(name, args, 1, taken, "in use")
        ends(name, make_args(base, data) + ("node.data-dir=",), 2, "node.data-dir is not set")
        with open(os.path.join(top, "file"), "w"):
            pass
        ends(name, make_args(base, os.path.join(top, "file", "x")), 1, "Not a directory")
        other = "placementd" if name == "shardd" else "shardd"
        others_args = (placementd_args if name == "shardd" else shardd_args)(base, data)
        others_args = tuple(a for a in others_args if not a.startswith("listen."))
        ends(other, others_args, 4, "belongs to " + name)
        stamp = os.path.join(data, "stamp")
        with open(stamp, "r+b") as f:
            f.seek(20)
            f.write(b"\xff")
        ends(name, make_args(base, data), 4, stamp, "damaged")
    held.close()
    return ""


def io_uring_forbidden():
    """A sandbox that forbids io_uring: named, with what to do."""
    if os.uname().machine != "x86_64":
        raise Skipped("the filter is written for x86_64")
    # Load the call's number; io_uring_setup (425) fails with EPERM, all else is allowed.
    code = struct.pack("=HBBI", 0x20, 0, 0, 0) + struct.pack("=HBBI", 0x15, 0, 1, 425) + \
        struct.pack("=HBBI", 0x06, 0, 0, 0x00050001) + struct.pack("=HBBI", 0x06, 0, 0, 0x7fff0000)
    buffer = ctypes.create_string_buffer(code)
    prog = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    prog_buffer = ctypes.create_string_buffer(prog)
    libc = ctypes.CDLL(None, use_errno=True)

    def forbid():
        libc.prctl(38, 1, 0, 0, 0)
        if libc.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(prog_buffer)), 0, 0) != 0:
            os._exit(99)
    check(os.path.exists(program("shardd")), "no shardd")
    base = free_base(1)
    for name, args in (("shardd", shardd_args), ("placementd", placementd_args)):
        ends(name, args(base, os.path.join(directory(), "d")), 1, "io_uring",
             "kernel.io_uring_disabled", preexec_fn=forbid)
    return ""
