"""A playground of real processes for the cluster tests: start, faults by pid, what the logs say.

Every process that was ever seen is noted: at the end each one has to be gone, none may have died of
its own, and none may have needed SIGKILL to stop."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("KV_BIN", os.path.join(TOP, "build", "bin"))
# kvctl playground: clients, peers and HTTP of shardd (1, 201, 401) and of placementd
PORT_OFFSETS = (1, 101, 201, 301, 401, 501)
# What a healthy process never prints.
FATAL = re.compile(r"CHECK\(.*failed|Sanitizer|runtime error:|Assertion|replica_broken|"
                   r"\bfatal\b.*error=")


class Failed(Exception):
    """The product (or the fault) did not do what the test wants; the text says what."""


class Skipped(Exception):
    """Not possible on this machine; the text says why."""


def check(condition, text):
    if not condition:
        raise Failed(text)


def free_base(nodes):
    """A port from which on the ports of a playground are free. Below the ephemeral range, so that
    no outgoing connection takes one meanwhile."""
    for i in range(50):
        base = 10000 + (os.getpid() * 7 + i * 13) % 35 * 600
        ports = [base + offset + k for offset in PORT_OFFSETS for k in range(max(nodes, 3) + 2)]
        if all(port_free(p) for p in ports):
            return base
    raise Failed("no free ports")


def port_free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def wait_until(what, condition, seconds=15.0):
    """Waits for condition() to be true and returns its value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= end:
            raise Failed("not within %.0f s: %s" % (seconds, what() if callable(what) else what))
        time.sleep(0.05)


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def program(name):
    """Its path; what KV_BIN lacks (lincheck, of a sanitizer's build) comes from build/bin."""
    path = os.path.join(BIN, name)
    return path if os.path.exists(path) else os.path.join(TOP, "build", "bin", name)


def run_program(name, *args, seconds=60, **kw):
    """Runs one of our programs to its end."""
    try:
        return subprocess.run([program(name), *args], capture_output=True, text=True,
                              timeout=seconds, **kw)
    except subprocess.TimeoutExpired as e:
        raise Failed("%s %s does not end within %d s: %s" % (name, " ".join(args), seconds,
                                                             e.stderr)) from None


class Playground:
    def __init__(self, nodes=3, groups=4, cores=1, directory=None, sets=()):
        self.tmp = directory or tempfile.mkdtemp(prefix="shardkv-cluster.")
        self.dir = os.path.join(self.tmp, "run")
        self.scratch = tempfile.mkdtemp(prefix="shardkv-cluster.")  # never on a disk that gets full
        self.base = free_base(nodes)
        self.nodes, self.groups, self.cores = nodes, groups, cores
        self.placements = 3  # members of placementd ever made
        self.sets = [x for text in sets for x in ("--set", text)]
        self.url = None
        self.seen = {}       # pid -> name, every process ever seen
        self.ended = set()   # pids that were killed or stopped on purpose
        self.paused = []
        self.children = []   # kvbench in the background
        self.expected = []   # texts that FATAL lines of the logs may hold in this test

    # ---- processes ----
    def ctl(self, *args, ok=True, stdin=None):
        url = ["--url", self.url] if self.url else []
        p = run_program("kvctl", *url, *args, input=stdin)
        if ok and p.returncode != 0:
            raise Failed("kvctl %s: exit %d\n%s%s" % (" ".join(args), p.returncode, p.stdout,
                                                      p.stderr))
        return p

    def playground(self, what, *args, ok=True, options=()):
        p = self.ctl(*options, "playground", what, *args, "--dir", self.dir, ok=ok)
        self.note_processes()
        return p

    def start(self, *names, ok=True, options=()):
        """All of it, or processes by name; waits as long as `kvctl playground start` does."""
        for name in names or [None]:
            p = self.playground("start", *([name] if name else []), "--base-port", str(self.base),
                                "--nodes", str(self.nodes), "--placements", str(self.placements), "--groups", str(self.groups),
                                "--cores", str(self.cores), *self.sets, ok=ok, options=options)
        self.url = "kv://" + ",".join("127.0.0.1:%d" % (self.base + 101 + i) for i in range(self.placements))
        return p if names else self

    def stop(self, name):
        """SIGTERM, and it has to go by itself."""
        pid = self.pid(name)
        p = self.playground("stop", name)
        self.ended.add(pid)
        check("killed" not in p.stderr, "%s: %s" % (name, p.stderr))

    def names(self):
        return ["p%d" % (i + 1) for i in range(self.placements)] + self.shardds()

    def shardds(self):
        return ["n%d" % (i + 1) for i in range(self.nodes)]

    def noted_pid(self, name):
        try:
            with open(os.path.join(self.dir, "pid", name)) as f:
                return int(f.read().split()[0])
        except (OSError, ValueError, IndexError):
            return 0

    def note_processes(self):
        for name in self.names():
            pid = self.noted_pid(name)
            if pid:
                self.seen[pid] = name

    def pid(self, name):
        pid = self.noted_pid(name)
        check(pid and alive(pid), "%s is not running\n%s" % (name, self.tail(name)))
        return pid

    def signal(self, name, sig):
        os.kill(self.pid(name), sig)

    def kill(self, *names):
        """kill -9, all at once, and waits until they are gone."""
        pids = [self.pid(n) for n in names]
        for pid in pids:
            self.ended.add(pid)
            os.kill(pid, signal.SIGKILL)
        wait_until("killed processes are gone", lambda: not any(alive(pid) for pid in pids))

    def pause(self, name):
        pid = self.pid(name)
        os.kill(pid, signal.SIGSTOP)
        self.paused.append(pid)

    def resume(self):
        os.kill(self.paused.pop(), signal.SIGCONT)

    def shardd_args(self, name, **changed):
        """The command line of a node as the playground starts it, for starting it by hand."""
        k = int(name[1:])
        settings = {"node.id": name, "node.data-dir": os.path.join(self.dir, name),
                    "listen.client": "127.0.0.1:%d" % (self.base + k),
                    "listen.peer": "127.0.0.1:%d" % (self.base + 200 + k),
                    "cluster.placement": "127.0.0.1:%d" % (self.base + 101), "node.host": name,
                    "node.cores": str(self.cores)}
        settings.update({key.replace("__", ".").replace("_", "-"): v for key, v in changed.items()})
        return [x for k, v in settings.items() for x in ("--set", "%s=%s" % (k, v))]

    # ---- logs ----
    def log(self, name):
        try:
            with open(os.path.join(self.dir, "log", name + ".log"), errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    def tail(self, name, lines=15):
        return "".join("    %s: %s\n" % (name, line)
                       for line in self.log(name).splitlines()[-lines:])

    def wait_log(self, name, text, seconds=15, after=0):
        """Waits for the text in the part of the log behind `after`."""
        wait_until(lambda: "%s says \"%s\"\n%s" % (name, text, self.tail(name)),
                   lambda: text in self.log(name)[after:], seconds)

    # ---- what the cluster says ----
    def status(self):
        """`kvctl status -o json`, or None while placementd has no leader."""
        p = self.ctl("-o", "json", "--timeout", "1s", "status", ok=False)
        try:
            return json.loads(p.stdout)
        except ValueError:
            return None

    def leaders(self):
        """{group: (name of the leading node or None, term)}"""
        s = wait_until("kvctl status", self.status)
        names = {n["id"]: n["name"] for n in s["nodes"]}
        return {g["id"]: (names.get(g["leader"]), int(g["term"])) for g in s["groups"]}

    def leader_node(self):
        """Name of the running shardd that leads most groups."""
        led = [name for name, _ in self.leaders().values() if name]
        check(led, "no group has a leader")
        return max(sorted(set(led)), key=led.count)

    def wait_led_by_others(self, victim, before, seconds=10):
        """Every group that the victim led has another leader of a later term: the fault has bitten.
        Returns their number."""
        mine = [g for g, (name, _) in before.items() if name == victim]
        check(mine, "%s led nothing, the test proves nothing" % victim)

        def moved():
            now = self.leaders()
            return all(now[g][0] not in (None, victim) and now[g][1] > before[g][1] for g in mine)
        wait_until("groups %s of %s led by others" % (mine, victim), moved, seconds)
        return len(mine)

    def wait_healthy(self, seconds=30):
        wait_until(lambda: "kvctl status is ok: " + self.ctl("status", ok=False).stdout,
                   lambda: self.ctl("status", ok=False).returncode == 0, seconds)

    # ---- the end ----
    def abandon(self):
        """Whatever happened: leaves no process and no file behind."""
        for p in self.children:
            if p.poll() is None:
                p.kill()
                p.wait()
        for pid in self.paused:
            if alive(pid):
                os.kill(pid, signal.SIGCONT)
        self.paused = []
        self.note_processes()
        said = ""
        try:
            if os.path.isdir(self.dir):
                said = self.playground("stop", ok=False).stderr
        except Failed as e:  # it hangs: the rest has to be done all the same
            said = "killed by the test: %s" % e
        left = [pid for pid, name in self.seen.items() if alive(pid) and is_ours(pid, self.dir)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        return said, left

    def died(self):
        """Names of processes that ended although nobody ended them."""
        self.note_processes()
        return [name for pid, name in self.seen.items() if pid not in self.ended and not alive(pid)]

    def fatal(self, name):
        """What must not be in a log, with the lines behind it: a sanitizer says where."""
        lines = self.log(name).splitlines()
        for i, line in enumerate(lines):
            if FATAL.search(line) and not any(t in line for t in self.expected):
                return ["%s: %s" % (name, text) for text in lines[i:i + 60]]
        return []

    def close(self, verify):
        """With `verify` also checks how it ends; raises Failed."""
        died = self.died()
        said, left = self.abandon()
        bad = [excerpt for name in self.names() for excerpt in self.fatal(name)]
        last = "".join("\n" + self.tail(name, 40) for name in died)
        shutil.rmtree(self.tmp, ignore_errors=True)
        shutil.rmtree(self.scratch, ignore_errors=True)
        if not verify:
            return
        check(not died, "ended by themselves: %s%s" % (died, last))
        check(not bad, "in the logs:\n%s" % "\n".join(bad[:120]))
        check(not left, "left behind after stop: %s" % [self.seen[pid] for pid in left])
        check("killed" not in said, "stop: %s" % said)


def is_ours(pid, directory):
    """A pid may have been used again: only a process whose command line names our directory."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as f:
            return directory.encode() in f.read()
    except OSError:
        return False
