"""A playground of real processes for the cluster tests: start, faults by pid, load, history."""
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("KV_BIN", os.path.join(TOP, "build", "bin"))


class Failed(Exception):
    pass


class Skipped(Exception):
    pass


def check(condition, text):
    if not condition:
        raise Failed(text)


def free_base(count):
    """The first of `count` consecutive free loopback ports."""
    for base in range(20000 + os.getpid() % 500 * 20, 32000, 20):
        held = []
        try:
            for port in range(base, base + count):
                s = socket.socket()
                held.append(s)
                s.bind(("127.0.0.1", port))
            return base
        except OSError:
            continue
        finally:
            for s in held:
                s.close()
    raise Failed("no free ports")


def wait_until(what, condition, seconds=15.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise Failed("not within %.0f s: %s" % (seconds, what))


class Playground:
    def __init__(self, nodes=3, groups=4, directory=None):
        self.tmp = directory or tempfile.mkdtemp(prefix="shardkv-cluster.")
        self.dir = os.path.join(self.tmp, "run")
        self.base = free_base(30)
        self.nodes, self.groups = nodes, groups
        self.url = None
        self.stopped = []

    # ---- processes ----
    def ctl(self, *args, ok=True, stdin=None):
        url = ["--url", self.url] if self.url else []
        p = subprocess.run([os.path.join(BIN, "kvctl"), *url, *args], capture_output=True,
                           text=True, input=stdin, timeout=60)
        if ok and p.returncode != 0:
            raise Failed("kvctl %s: exit %d\n%s%s" % (" ".join(args), p.returncode, p.stdout,
                                                      p.stderr))
        return p

    def start(self, *names):
        self.ctl("playground", "start", *names, "--dir", self.dir, "--base-port", str(self.base),
                 "--nodes", str(self.nodes), "--groups", str(self.groups))
        self.url = self.status()["url"]
        return self

    def stop(self, *names):
        self.ctl("playground", "stop", *names, "--dir", self.dir)

    def status(self):
        return json.loads(self.ctl("-o", "json", "playground", "status", "--dir", self.dir).stdout)

    def pid(self, name):
        for p in self.status()["processes"]:
            if p["name"] == name and p["state"] == "running":
                return int(p["pid"])
        raise Failed("%s is not running" % name)

    def shardds(self):
        return ["n%d" % (i + 1) for i in range(self.nodes)]

    def signal(self, name, sig):
        os.kill(self.pid(name), sig)

    def kill(self, *names):
        """kill -9, all at once, and waits until they are gone."""
        pids = [self.pid(n) for n in names]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until("killed processes are gone",
                   lambda: not any(alive(pid) for pid in pids))

    def pause(self, name):
        pid = self.pid(name)
        os.kill(pid, signal.SIGSTOP)
        self.stopped.append(pid)

    def resume(self, name):
        pid = self.stopped.pop()
        os.kill(pid, signal.SIGCONT)

    def log(self, name):
        with open(os.path.join(self.dir, "log", name + ".log"), errors="replace") as f:
            return f.read()

    def close(self):
        for pid in self.stopped:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                pass
        self.ctl("playground", "stop", "--dir", self.dir, ok=False)
        shutil.rmtree(self.tmp, ignore_errors=True)

    # ---- what the cluster says ----
    def groups_status(self):
        return json.loads(self.ctl("-o", "json", "groups").stdout)["groups"]

    def node_ids(self):
        nodes = json.loads(self.ctl("-o", "json", "nodes").stdout)["nodes"]
        return {n.get("name", n["id"]): n["id"] for n in nodes}

    def leader_node(self):
        """Name of the shardd that leads most groups."""
        nodes = json.loads(self.ctl("-o", "json", "nodes").stdout)["nodes"]
        best = max(nodes, key=lambda n: int(n["leaders"]))
        return best.get("name", best["id"])

    def wait_healthy(self, seconds=30):
        def healthy():
            return self.ctl("status", ok=False).returncode == 0
        wait_until("kvctl status is healthy", healthy, seconds)


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Load:
    """kvbench with a recorded history in the background."""

    def __init__(self, cluster, seconds, clients=8, keys=30, reads=50, extra=()):
        self.cluster = cluster
        self.history = os.path.join(cluster.tmp, "history.jsonl")
        self.process = subprocess.Popen(
            [os.path.join(BIN, "kvbench"), "--url", cluster.url, "--clients", str(clients),
             "--keys", str(keys), "--reads", str(reads), "--seconds", str(seconds), "--rate", "800",
             "--timeout", "1000", "--history", self.history, "-o", "json", *extra],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wait(self):
        out, err = self.process.communicate(timeout=120)
        check(self.process.returncode in (0, 1), "kvbench: exit %d: %s" %
              (self.process.returncode, err))
        return json.loads(out.strip().splitlines()[-1])

    def finish(self, min_ok=500):
        """Waits, reads every key once more, checks the whole history."""
        result = self.wait()
        events = [json.loads(line) for line in open(self.history)]
        acknowledged = [e for e in events if e.get("st") == "ok" and e["op"] in ("put", "del")]
        check(len(acknowledged) >= min_ok,
              "too few writes succeeded for the run to count: %d" % len(acknowledged))
        with open(self.history, "a") as f:
            for i, key in enumerate(sorted({e["k"] for e in events})):
                f.write(json.dumps(self.final_read(key, 1000000 + i)) + "\n")
        p = subprocess.run([os.path.join(BIN, "lincheck"), self.history], capture_output=True,
                           text=True, timeout=300)
        check(p.returncode == 0, "history: " + p.stdout[-3000:] + p.stderr)
        return result, p.stdout.strip().splitlines()[-1]

    def final_read(self, key, client):
        t0 = time.monotonic_ns()
        p = self.cluster.ctl("get", key, ok=False)
        t1 = time.monotonic_ns()
        check(p.returncode in (0, 1), "final read of %s: %s" % (key, p.stderr))
        value = p.stdout[:-1] if p.stdout.endswith("\n") else p.stdout
        return {"c": client, "k": key, "op": "get", "out": value if p.returncode == 0 else None,
                "t0": t0, "t1": t1, "st": "ok"}
