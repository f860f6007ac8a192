#!/usr/bin/env python3
"""Faults against real processes. Each test checks that no acknowledged write is lost and that the
recorded history is linearizable; a run counts only if enough operations succeeded and the fault
has bitten. `cluster_test.py [NAME...]`; the last line is "N passed, M failed, K skipped"."""
import glob
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback

from playground import Failed, Load, Playground, Skipped, check, wait_until


def leader_killed(c):
    """kill -9 of a leader under load; it comes back."""
    load = Load(c, 8)
    time.sleep(2)
    victim = c.leader_node()
    c.kill(victim)
    time.sleep(3)
    c.start(victim)
    return load.finish()


def majority_killed(c):
    """kill -9 of two of three nodes at once; they come back."""
    load = Load(c, 10)
    time.sleep(2)
    c.kill("n1", "n2")
    time.sleep(2)
    c.start("n1")
    c.start("n2")
    return load.finish()


def all_killed(c):
    """kill -9 of every shardd at the same moment, three times: what was acknowledged is there."""
    load = Load(c, 14)
    for _ in range(3):
        time.sleep(2)
        c.kill(*c.shardds())
        c.start()
    return load.finish()


def put_then_kill_all(c):
    """A put answered OK survives kill -9 of everything the next moment."""
    for i in range(5):
        c.ctl("put", "durable%d" % i, "value%d" % i)
        c.kill(*c.shardds(), "p1", "p2", "p3")
        c.start()
    for i in range(5):
        out = c.ctl("get", "durable%d" % i).stdout.strip()
        check(out == "value%d" % i, "durable%d is %r" % (i, out))


def placement_down(c):
    """Reads and writes go on while all of placementd is down, also over a restart of a node."""
    load = Load(c, 8)
    time.sleep(1)
    c.kill("p1", "p2", "p3")
    time.sleep(1)
    before = c.pid("n1")
    os.kill(before, signal.SIGKILL)
    time.sleep(4)
    c.start()
    result = load.finish()
    check(result[0]["errors"] == 0, "errors while placementd was down: %r" % (result[0],))
    return result


def leader_paused(c):
    """SIGSTOP of a leader for three seconds: others take over, it serves nothing stale."""
    load = Load(c, 9)
    time.sleep(2)
    victim = c.leader_node()
    c.pause(victim)
    time.sleep(3)
    c.resume(victim)
    return load.finish()


def follower_by_snapshot(c):
    """A follower that missed more than the log holds is brought back by a snapshot."""
    c.kill("n3")
    for _ in range(2):
        subprocess_bench(c, "--clients", "32", "--pipeline", "4", "--reads", "0", "--keys", "3000",
                         "--value-size", "4000", "--ops", "60000")
    load = Load(c, 6)
    c.start("n3")
    wait_until("n3 has installed a snapshot", lambda: "snapshot_installed" in c.log("n3"), 40)
    result = load.finish()
    c.wait_healthy()
    c.kill("n1")  # n3 is needed for a majority now
    c.ctl("--timeout", "10s", "put", "after", "snapshot")
    c.start("n1")
    return result


def subprocess_bench(c, *args):
    from playground import BIN
    p = subprocess.run([os.path.join(BIN, "kvbench"), "--url", c.url, "-o", "json", *args],
                       capture_output=True, text=True, timeout=120)
    check(p.returncode == 0, "kvbench: %s%s" % (p.stdout, p.stderr))


def last_segment(c, node):
    files = [f for f in glob.glob(os.path.join(c.dir, node, "wal-0", "*"))
             if os.path.getsize(f) >= 1 << 20]
    check(files, "no WAL segment of %s" % node)
    return max(files, key=used_bytes)


def segment_data(path):
    with open(path, "rb") as f:
        return f.read()


def used_bytes(path):
    """(number of the segment by its data, position): segments in use sort by modification."""
    return os.stat(path).st_mtime_ns


def torn_tail(c):
    """The last block of a WAL is half written at a crash: it is cut off, nothing acknowledged by a
    majority is lost."""
    load = Load(c, 8)
    time.sleep(2)
    victim = c.leader_node()
    c.kill(victim)
    path = last_segment(c, victim)
    data = segment_data(path)
    end = len(data.rstrip(b"\0"))
    check(end > 8192, "the WAL is empty")
    with open(path, "r+b") as f:  # the second half of the last 512 bytes written
        f.seek((end - 1) // 512 * 512)
        f.write(b"\0" * 512)
    c.start(victim)
    return load.finish()


def flipped_bit(c):
    """A flipped bit before good records: the node refuses to start and says what to do; the others
    go on."""
    subprocess_bench(c, "--clients", "8", "--reads", "0", "--keys", "100", "--ops", "2000")
    victim = c.leader_node()
    c.kill(victim)
    path = last_segment(c, victim)
    data = segment_data(path)
    end = len(data.rstrip(b"\0"))
    at = end // 2
    while data[at] == 0:
        at += 1
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(bytes([data[at] ^ 0x10]))
    c.ctl("playground", "start", victim, "--dir", c.dir, "--base-port", str(c.base), ok=False)
    wait_until("%s names the damage" % victim, lambda: "CORRUPT" in c.log(victim), 10)
    tail = c.log(victim)[-1500:]
    check(os.path.basename(path) in tail, "the damaged file is not named: %s" % tail)
    c.ctl("--timeout", "10s", "put", "after", "damage")
    check(c.ctl("get", "after").stdout.strip() == "damage", "the others do not go on")


def garbage(c):
    """Hostile bytes: a closed connection or an error within a bound; the memory does not move."""
    host, port = re.search(r"kv://.*", c.url), None
    port = [p for p in c.status()["processes"] if p["name"] == "n1"][0]["address"].split(":")[1]
    before = rss(c.pid("n1"))
    attacks = {
        "text": b"GET / HTTP/1.1\r\n\r\n",
        "nested arrays": b"\xdd\xff\xff\xff\xff" * 31,
        "huge bin": b"\x94\x00\x01\xa6kv.put\x92\xc4\x01k\xc6\xff\xff\xff\xff",
        "deep": b"\x91" * 100000,
        "wrong types": b"\x94\x00\x01\x05\x06",
        "unknown method": b"\x94\x00\x01\xa7nothing\x90",
        "empty key": b"\x94\x00\x02\xa6kv.get\x91\xc4\x00",
        "random": bytes((i * 7919 + 13) % 256 for i in range(65536)),
    }
    for name, data in attacks.items():
        answer, closed = attack(port, data)
        check(answer or closed, "%s: neither an answer nor a closed connection" % name)
    half = [socket.create_connection(("127.0.0.1", int(port))) for _ in range(200)]
    for s in half:
        s.sendall(b"\x94\x00\x01\xa6kv.put\x92\xc4\x01k\xc6" + struct.pack(">I", 1000000) + b"x")
    c.ctl("put", "good", "client")
    check(c.ctl("get", "good").stdout.strip() == "client", "a good client suffers")
    end = time.monotonic() + 15
    for s in half:
        s.settimeout(max(0.1, end - time.monotonic()))
        try:
            while s.recv(65536):
                pass
        except socket.timeout:
            raise Failed("half a message, then silence: not closed within 15 s") from None
        except OSError:
            pass
        s.close()
    grown = rss(c.pid("n1")) - before
    check(grown < 32 << 20, "memory grew by %d bytes" % grown)


def attack(port, data):
    s = socket.create_connection(("127.0.0.1", int(port)))
    s.settimeout(12)
    answer, closed = b"", False
    try:
        s.sendall(data)
        answer = s.recv(65536)
        closed = answer == b""
    except socket.timeout:
        pass
    except OSError:
        closed = True
    s.close()
    return answer, closed


def rss(pid):
    with open("/proc/%d/statm" % pid) as f:
        return int(f.read().split()[1]) * 4096


def disk_full(c):
    """The disk of all nodes fills up: reads go on, deletes are taken, puts are refused with
    NO_SPACE, and it heals by itself."""
    c.ctl("put", "before", "full")
    filler = os.path.join(c.tmp, "filler")
    free = os.statvfs(c.tmp).f_bavail * os.statvfs(c.tmp).f_frsize
    with open(filler, "wb") as f:
        os.posix_fallocate(f.fileno(), 0, free - (8 << 20))

    def refused():
        p = c.ctl("--timeout", "1s", "put", "during", "full", ok=False)
        return p.returncode != 0 and "full" in p.stderr
    wait_until("puts are refused", refused, 10)
    check(c.ctl("get", "before").stdout.strip() == "full", "reads do not go on")
    c.ctl("del", "before")
    os.unlink(filler)
    wait_until("it heals", lambda: c.ctl("--timeout", "2s", "put", "after", "full",
                                         ok=False).returncode == 0, 15)


def small_disk():
    """A 512 MiB file system on a loop device: its mount point, and what undoes it."""
    import tempfile
    if os.geteuid() != 0:
        raise Skipped("needs root for a loop mount")
    top = tempfile.mkdtemp(prefix="shardkv-disk.")
    image, mount = os.path.join(top, "image"), os.path.join(top, "mnt")
    os.mkdir(mount)
    with open(image, "wb") as f:
        f.truncate(1200 << 20)
    for command in (["mkfs.ext4", "-q", "-F", image], ["mount", "-o", "loop", image, mount]):
        try:
            p = subprocess.run(command, capture_output=True, text=True)
        except OSError as e:
            p = subprocess.CompletedProcess(command, 1, "", str(e))
        if p.returncode != 0:
            subprocess.run(["rm", "-rf", top], check=False)
            raise Skipped("no loop mount here: %s" % p.stderr.strip())

    def undo():
        subprocess.run(["umount", mount], check=False)
        subprocess.run(["rm", "-rf", top], check=False)
    return mount, undo


TESTS = [leader_killed, majority_killed, all_killed, put_then_kill_all, placement_down,
         leader_paused, follower_by_snapshot, torn_tail, flipped_bit, garbage, disk_full]


def run(test):
    undo = None
    directory = None
    if test is disk_full:
        directory, undo = small_disk()
    c = Playground(directory=directory)
    try:
        c.start()
        result = test(c)
        return result[1] if result else ""
    except Exception:
        for name in c.shardds():
            try:
                print("--- last lines of %s\n%s" % (name, c.log(name)[-1500:]))
            except OSError:
                pass
        raise
    finally:
        c.close()
        if undo:
            undo()


def main():
    names = sys.argv[1:]
    passed = failed = skipped = 0
    for test in TESTS:
        if names and test.__name__ not in names:
            continue
        t0 = time.monotonic()
        try:
            note = run(test)
            passed += 1
            print("  ok    %s (%.0f s) %s" % (test.__name__, time.monotonic() - t0, note))
        except Skipped as e:
            skipped += 1
            print("  skip  %s: %s" % (test.__name__, e))
        except Exception as e:
            failed += 1
            if not isinstance(e, Failed):
                traceback.print_exc()
            print("  FAIL  %s: %s" % (test.__name__, e))
        sys.stdout.flush()
    print("cluster: %d passed, %d failed, %d skipped" % (passed, failed, skipped))
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
