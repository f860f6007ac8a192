"""What disks do: torn tails, flipped bits, no space, no permission, the wrong directory."""
import glob
import os
import shutil
import struct
import subprocess
import tempfile
import time

from load import Load, bench
from playground import BIN, Failed, Playground, Skipped, alive, check, run_program, wait_until

BLOCK = 4096
MAGIC = b"SKVWALCM"  # of a commit, common/wal/wal_format.h


def commits(path):
    """[(offset, length)] of what looks like a commit."""
    with open(path, "rb") as f:
        data = f.read()
    return [(at, struct.unpack_from("<I", data, at + 24)[0])
            for at in range(BLOCK, len(data), BLOCK) if data[at:at + 8] == MAGIC]


def segments(c, node):
    return sorted(glob.glob(os.path.join(c.dir, node, "wal-0", "wal-*.log")))


def last_commit(c, node):
    """Segment, offset and length of the last commit of a log."""
    for path in reversed(segments(c, node)):
        found = commits(path)
        if found:
            return path, found[-1][0], found[-1][1]
    raise Failed("%s has no commit in its WAL" % node)


def overwrite(path, offset, data):
    with open(path, "r+b") as f:
        f.seek(offset)
        f.write(data)


def torn_tail(c):
    """The last commit of a WAL is half written at a crash: it is cut off, exactly it, and the node
    goes on; nothing acknowledged is lost."""
    load = Load(c)
    load.warm_up()
    before = c.leaders()
    victim = c.leader_node()
    c.kill(victim)
    # Only now: what the others have not got yet is not acknowledged without us.
    c.wait_led_by_others(victim, before)
    path, offset, length = last_commit(c, victim)
    overwrite(path, offset + length // 2, b"\0" * (length - length // 2))
    c.start(victim)
    size = os.path.getsize(path) if os.path.exists(path) else -1
    check(size == offset, "%s is not cut at the torn commit: %d bytes instead of %d" % (
        os.path.basename(path), size, offset))
    load.finish()
    return "cut at %d; %s" % (offset, load.note())


def flipped_bit(c):
    """A flipped bit before good records: the node refuses to start, names file and offset and says
    what to do; the others go on."""
    bench(c, "--clients", "8", "--reads", "0", "--keys", "100", "--ops", "2000")
    victim = c.leader_node()
    c.kill(victim)
    path = segments(c, victim)[-1]
    found = commits(path)
    check(len(found) > 20, "only %d commits in the WAL" % len(found))
    offset, length = found[len(found) // 2]
    with open(path, "rb") as f:
        f.seek(offset + length - 9)
        byte = f.read(1)[0]
    overwrite(path, offset + length - 9, bytes([byte ^ 0x10]))
    p = c.start(victim, ok=False)
    check(p.returncode != 0, "the node starts with a damaged WAL")
    log = c.log(victim)
    for text in ("CORRUPT", os.path.basename(path), "offset %d" % offset, "re-seeded"):
        check(text in log and text in p.stderr, "\"%s\" is not in what it says:\n%s\n%s" % (
            text, p.stderr, c.tail(victim)))
    c.ended.add(c.noted_pid(victim))  # it has ended as it should
    c.ctl("--timeout", "10s", "put", "after", "damage")
    check(c.ctl("get", "after").stdout.strip() == "damage", "the others do not go on")
    overwrite(path, offset + length - 9, bytes([byte]))
    c.start(victim)  # it was that bit and nothing else
    return "commit at %d of %s" % (offset, os.path.basename(path))


def disk_full(c):
    """The disk of all nodes fills up: reads go on, deletes are taken, puts are refused with
    NO_SPACE, and it heals by itself."""
    c.ctl("put", "before", "full")
    filler = os.path.join(c.tmp, "filler")
    free = os.statvfs(c.tmp).f_bavail * os.statvfs(c.tmp).f_frsize
    with open(filler, "wb") as f:
        os.posix_fallocate(f.fileno(), 0, free - (8 << 20))

    def refused():
        p = c.ctl("-o", "json", "--timeout", "1s", "put", "during", "full", ok=False)
        return p.returncode != 0 and "NO_SPACE" in p.stderr
    wait_until("puts are refused with NO_SPACE", refused, 10)
    check(all("disk_full" in c.log(n) for n in c.shardds()), "disk_full is not in the logs")
    check(c.ctl("get", "before").stdout.strip() == "full", "reads do not go on")
    c.ctl("del", "before")
    check(c.ctl("get", "before", ok=False).returncode == 1, "the delete was not taken")
    os.unlink(filler)
    wait_until("it heals", lambda: c.ctl("--timeout", "2s", "put", "after", "full",
                                         ok=False).returncode == 0, 15)
    return ""


def free_on(c):
    disk = os.statvfs(c.tmp)
    return disk.f_bavail * disk.f_frsize


def fill(c, name, leave):
    """A file that takes all of the disk but `leave` bytes, to the last block if that is 0."""
    path = os.path.join(c.tmp, name)
    try:
        with open(path, "wb") as f:
            if free_on(c) > leave + (64 << 20):
                os.posix_fallocate(f.fileno(), 0, free_on(c) - max(leave, 64 << 20))
                f.seek(0, os.SEEK_END)
            while leave == 0:
                f.write(b"x" * (1 << 20))
                f.flush()
    except OSError:
        pass  # full
    check(leave > 0 or free_on(c) < 1 << 20, "%d bytes are left" % free_on(c))
    return path


def press_on(c, seconds):
    """Large puts over and over: WAL segments and memtables fill up."""
    press = subprocess.Popen(
        [os.path.join(BIN, "kvbench"), "--url", c.url, "--clients", "16", "--reads", "0", "--keys",
         "300", "--value-size", "100000", "--seconds", str(seconds), "--timeout", "1000"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    c.children.append(press)
    return press


def full_and_freed(c, seconds, fillers):
    """Under load and press the disk is full to the last byte; then the fillers go. What was
    acknowledged is there, no process has died, and it heals."""
    c.expected.append("error=NO_SPACE")  # a flush that came too late breaks a replica, for a while
    load = Load(c, timeout=4000)
    load.warm_up(1)
    press = press_on(c, seconds)
    time.sleep(0.3)
    fillers = fillers + [fill(c, "filler", 0)]
    wait_until("the nodes see it", lambda: any("disk_full" in c.log(n) for n in c.shardds()), 8)
    time.sleep(2)
    for path in fillers:
        os.unlink(path)
    press.wait(timeout=30)
    wait_until("it heals", lambda: c.ctl("--timeout", "2s", "put", "after", "full",
                                         ok=False).returncode == 0, 15)
    load.finish()
    return load.note()


def disk_full_at_once(c):
    """The disk is full to the last byte in the middle of writing, with no time to see it coming: no
    acknowledged write is lost, no process dies of it or it says why, and it heals."""
    return full_and_freed(c, 5, [])


def tiny_disk_full(c):
    """Six daemons on one disk of 1.2 GiB that their own logs and tables fill up as well: what they
    keep for later must not hinder them once there is space again; so three times."""
    notes = []
    for _ in range(3):
        c.ctl("put", "before", "full")
        notes.append(full_and_freed(c, 5, [fill(c, "other", 700 << 20)]))
    disk_full(c)
    return "; ".join(notes)


def tiny_disk():
    return small_disk(1200 << 20)


def small_disk(size=4 << 30):
    """A file system on a loop device, of which only what is written takes space here: its mount
    point, and what undoes it. All nodes share it."""
    if os.geteuid() != 0:
        raise Skipped("needs root for a loop mount")
    top = tempfile.mkdtemp(prefix="shardkv-disk.")
    image, mount = os.path.join(top, "image"), os.path.join(top, "mnt")
    os.mkdir(mount)
    with open(image, "wb") as f:
        f.truncate(size)
    for command in (["mkfs.ext4", "-q", "-F", image], ["mount", "-o", "loop", image, mount]):
        try:
            p = subprocess.run(command, capture_output=True, text=True)
        except OSError as e:
            p = subprocess.CompletedProcess(command, 1, "", str(e))
        if p.returncode != 0:
            shutil.rmtree(top, ignore_errors=True)
            raise Skipped("no loop mount here: %s" % p.stderr.strip())

    def undo():
        p = subprocess.run(["umount", mount], capture_output=True, text=True)
        if p.returncode != 0:  # somebody still has a file open: never delete under a mount
            subprocess.run(["umount", "-l", mount], check=False)
        shutil.rmtree(top, ignore_errors=True)
    return mount, undo


def foreign_directory(c):
    """The data directory of another cluster: refused with a clear message, nothing of it served."""
    other = Playground(nodes=1, groups=1)
    try:
        c.expected.append("error=FOREIGN")
        other.start()
        other.ctl("put", "key", "of the other cluster")
        other.stop("n1")
        c.ctl("put", "key", "ours")
        c.stop("n1")
        shutil.move(os.path.join(c.dir, "n1"), os.path.join(c.dir, "ours"))
        shutil.copytree(os.path.join(other.dir, "n1"), os.path.join(c.dir, "n1"))
        at = len(c.log("n1"))
        p = c.start("n1", ok=False)
        check(p.returncode != 0, "the node starts with another cluster's data")
        c.wait_log("n1", "belongs to another cluster", 10, after=at)
        wait_until("the refused node ends", lambda: not alive(c.noted_pid("n1")), 5)
        p = c.ctl("--timeout", "1s", "get", "key", ok=False)
        check(p.returncode != 0, "another cluster's data is served: %s" % p.stdout)
        c.ended.add(c.noted_pid("n1"))
        shutil.rmtree(os.path.join(c.dir, "n1"))
        shutil.move(os.path.join(c.dir, "ours"), os.path.join(c.dir, "n1"))
        c.start("n1")
        check(c.ctl("get", "key").stdout.strip() == "ours", "our own data is gone")
        return ""
    finally:
        other.close(verify=True)


def directory_in_use(c):
    """A second process on a data directory, another node's, another program's: refused."""
    cases = (
        ("in use twice", "shardd", c.shardd_args("n1", listen__client="127.0.0.1:0",
                                                 listen__peer="127.0.0.1:0"), "in use"),
        ("another number of cores", "shardd", c.shardd_args("n1", node__cores="2"), "in use"),
    )
    for what, program, args, text in cases:
        refused(what, program, args, text, os.path.join(c.dir, "n1"))
    c.ctl("put", "still", "there")
    c.stop("n1")
    wrong = (
        ("another node's", "shardd", c.shardd_args("n2", node__data_dir=os.path.join(c.dir, "n1")),
         "belongs to node n1"),
        ("another program's", "shardd",
         c.shardd_args("n1", node__data_dir=os.path.join(c.dir, "p1"), node__id="n1"), "in use"),
        ("another number of cores", "shardd", c.shardd_args("n1", node__cores="2"), "--cores 1"),
    )
    for what, program, args, text in wrong:
        refused(what, program, args, text, c.dir)
    c.start("n1")
    check(c.ctl("get", "still").stdout.strip() == "there", "the node's own start is disturbed")
    return ""


def refused(what, program, args, *texts, **kw):
    """The program ends by itself, not by a signal, with a code other than 0, and names all that."""
    p = run_program(program, *args, seconds=15, **kw)
    said = p.stdout + p.stderr
    check(p.returncode > 0, "%s: exit %d: %s" % (what, p.returncode, said))
    for text in texts:
        check(text in said, "%s: \"%s\" is not named: %s" % (what, text, said))
