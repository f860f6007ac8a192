"""Starting where it cannot work, and hostile clients."""
import os
import resource
import shutil
import socket
import struct
import subprocess
import tempfile
import time

from disks import refused
from playground import BIN, Failed, Skipped, check, free_base, run_program

PLACEMENTD = "1=127.0.0.1:%d"


def commands(directory, client, peer):
    """Both daemons with that directory and those ports."""
    shardd = ("--set", "node.id=n1", "--set", "node.data-dir=" + directory, "--set",
              "listen.client=127.0.0.1:%d" % client, "--set", "listen.peer=127.0.0.1:%d" % peer,
              "--set", "cluster.placement=127.0.0.1:9", "--set", "node.cores=1")
    placementd = ("--set", "node.id=1", "--set", "node.data-dir=" + directory, "--set",
                  "listen.client=127.0.0.1:%d" % client, "--set",
                  "listen.peer=127.0.0.1:%d" % peer, "--set",
                  "cluster.members=" + PLACEMENTD % peer)
    return ("shardd", shardd), ("placementd", placementd)


def two_ports():
    """Two ports of a range free for a playground, the first of it held: (socket, port, other)."""
    base = free_base(3)
    held = socket.socket()
    held.bind(("127.0.0.1", base + 1))
    held.listen(1)
    return held, base + 1, base + 2


def port_in_use():
    """A port that is taken is named, by both daemons and by the playground."""
    top = tempfile.mkdtemp(prefix="shardkv-cluster.")
    held, taken, free = two_ports()
    try:
        for client, peer in ((taken, free), (free, taken)):
            for program, args in commands(os.path.join(top, "d%d" % client), client, peer):
                shutil.rmtree(os.path.join(top, "d%d" % client), ignore_errors=True)
                refused("%s, port taken" % program, program, args, str(taken), "in use")
        p = run_program("kvctl", "playground", "start", "--dir", os.path.join(top, "run"),
                        "--base-port", str(taken - 1))
        check(p.returncode == 5 and str(taken) in p.stderr and "pid %d" % os.getpid() in p.stderr,
              "playground start with a taken port: exit %d %s" % (p.returncode, p.stderr))
        return ""
    finally:
        held.close()
        shutil.rmtree(top, ignore_errors=True)


def unwritable_directory():
    """A directory that cannot be made or written to is named, with the reason."""
    top = tempfile.mkdtemp(prefix="shardkv-cluster.")
    held, _, free = two_ports()
    held.close()
    try:
        with open(os.path.join(top, "file"), "w"):
            pass
        beneath = os.path.join(top, "file", "data")
        for program, args in commands(beneath, free, free + 1):
            refused("%s beneath a file" % program, program, args, beneath, "Not a directory")
        nobody = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        denied = os.path.join(top, "denied")
        os.mkdir(denied, 0o755 if nobody else 0o555)
        os.chmod(top, 0o755)
        for program, args in commands(denied, free, free + 1):
            try:
                refused("%s without permission" % program, program, args, denied,
                        "Permission denied", **nobody)
            except PermissionError:
                raise Skipped("another user may not run %s" % BIN) from None
        return ""
    finally:
        shutil.rmtree(top, ignore_errors=True)


def few_file_handles():
    """ulimit -n 256: refused with the limit and what to do, before anything is touched."""
    top = tempfile.mkdtemp(prefix="shardkv-cluster.")
    held, _, free = two_ports()
    held.close()

    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    try:
        directory = os.path.join(top, "d")
        program, args = commands(directory, free, free + 1)[0]
        refused(program, program, args, "256", "ulimit -n", preexec_fn=limit)
        check(not os.path.exists(directory), "the directory has been made all the same")
        return ""
    finally:
        shutil.rmtree(top, ignore_errors=True)


def clients_take_all_files(c):
    """Idle clients open more connections than a node may have files: the logs still get theirs."""
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    c.stop("n1")
    before = len(c.log("n1"))
    with open(os.path.join(c.dir, "log", "n1.log"), "a") as log:
        p = subprocess.Popen([os.path.join(BIN, "shardd"), *c.shardd_args("n1")], stdout=log,
                             stderr=log, preexec_fn=few)
    c.children.append(p)
    c.wait_log("n1", "ready", after=before)
    idle = []
    try:
        for _ in range(1200):
            s = socket.create_connection(("127.0.0.1", c.base + 1))
            s.setblocking(False)
            idle.append(s)
        time.sleep(1)
        refused_now = sum(1 for s in idle if ended(s))
        value = "v" * 500000
        for i in range(160):  # the log needs another segment
            c.ctl("put", "k%d" % i, "-", stdin=value)
        check(p.poll() is None, "n1 has ended: exit %s\n%s" % (p.returncode, c.tail("n1")))
        held = open_files(p.pid)
        c.wait_healthy()
        check(held < 1024, "n1 has %d files open, all that it may have" % held)
        check(refused_now >= 600, "only %d of 1200 connections were refused" % refused_now)
    finally:
        for s in idle:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return "%d of 1200 refused, %d files open" % (refused_now, held)


def slow_readers(c):
    """Many clients ask for large values and never read: the memory is bounded, the slowest are sent
    away, and good clients go on."""
    c.ctl("put", "big", "-", stdin="v" * 1000000)
    node = c.leader_node()
    port, pid = c.base + int(node[1:]), c.pid(node)
    leaders, before, files = c.leaders(), rss(pid), open_files(pid)
    asks = b"".join(b"\x94\x00" + bytes([i]) + b"\xa6kv.get\x91\xc4\x03big" for i in range(100))
    socks, most = [], 0
    for i in range(300):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", port))
        s.sendall(asks)
        socks.append(s)
        if i % 30 == 29:
            most = max(most, rss(pid) - before)
    t0 = time.monotonic()
    gone = 0
    while time.monotonic() < t0 + (40 if gone <= 0 else 5):
        c.ctl("put", "good", "client")
        check(c.ctl("get", "good").stdout.strip() == "client", "a good client suffers")
        most = max(most, rss(pid) - before)
        gone = len(socks) - (open_files(pid) - files)
    check(most < 512 << 20, "memory grew by %d MiB" % (most >> 20))
    check(gone > 0, "nobody was sent away; memory +%d MiB" % (most >> 20))
    check(c.pid(node) == pid, "the process has ended")
    check(c.leaders() == leaders, "an election took place: %s then %s" % (leaders, c.leaders()))
    for s in socks:
        s.close()
    return "memory +%d MiB, %d of 300 sent away" % (most >> 20, gone)


def ended(s):
    try:
        return s.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


# ---- hostile bytes ----

ATTACKS = {
    "text": b"GET / HTTP/1.1\r\n\r\n",
    "nested arrays": b"\xdd\xff\xff\xff\xff" * 31,
    "huge bin": b"\x94\x00\x01\xa6kv.put\x92\xc4\x01k\xc6\xff\xff\xff\xff",
    "deep": b"\x91" * 100000,
    "wrong types": b"\x94\x00\x01\x05\x06",
    "unknown method": b"\x94\x00\x01\xa7nothing\x90",
    "empty key": b"\x94\x00\x02\xa6kv.get\x91\xc4\x00",
    "random": bytes((i * 7919 + 13) % 256 for i in range(65536)),
}


def garbage(c):
    """Hostile bytes on every port: a closed connection or an error within a bound; the memory does
    not move and nobody else notices."""
    ports = [c.base + 1, c.base + 101, c.base + 201, c.base + 301]  # n1 and p1, clients and peers
    leaders = c.leaders()
    pids = [c.pid("n1"), c.pid("p1")]
    before = [rss(pid) for pid in pids]
    half = [half_message(ports[0]) for _ in range(200)]
    for port in ports:
        for name, data in ATTACKS.items():
            attack(port, name, data)
    c.ctl("put", "good", "client")
    check(c.ctl("get", "good").stdout.strip() == "client", "a good client suffers")
    wait_closed(half, 15)
    grown = [rss(pid) - b for pid, b in zip(pids, before)]
    check(max(grown) < 32 << 20, "memory grew by %s bytes" % grown)
    check(pids == [c.pid("n1"), c.pid("p1")], "a process has ended")
    check(c.leaders() == leaders, "an election took place: %s then %s" % (leaders, c.leaders()))
    return "%d attacks" % (len(ATTACKS) * len(ports) + len(half))


def half_message(port):
    s = socket.create_connection(("127.0.0.1", port))
    s.sendall(b"\x94\x00\x01\xa6kv.put\x92\xc4\x01k\xc6" + struct.pack(">I", 1000000) + b"x")
    return s


def attack(port, name, data):
    """An answer or a closed connection within the time that half a message is allowed to take."""
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.settimeout(14)
        try:
            s.sendall(data)
            s.recv(65536)
        except socket.timeout:
            raise Failed("port %d, %s: no answer, not closed within 14 s" % (port, name)) from None
        except OSError:
            pass  # reset: closed


def wait_closed(socks, seconds):
    end = time.monotonic() + seconds
    for s in socks:
        s.settimeout(max(0.1, end - time.monotonic()))
        try:
            while s.recv(65536):
                pass
        except socket.timeout:
            raise Failed("half a message, then silence: not closed within %d s" % seconds) from None
        except OSError:
            pass
        s.close()


def open_files(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def rss(pid):
    with open("/proc/%d/statm" % pid) as f:
        return int(f.read().split()[1]) * 4096
