"""Load with a recorded history, and the judgement of it: no acknowledged write lost, linearizable,
enough of it before and after each fault, and a checker that notices a planted loss."""
import json
import os
import signal
import subprocess
import time

from playground import BIN, Failed, check, run_program


SECONDS_MAX = 60
AFTER = 1.2  # seconds of load after the fault is over


class Load:
    """kvbench in the background until finish(). mark() notes the time of a fault or of its end."""

    def __init__(self, cluster, clients=8, keys=30, reads=50, rate=800, timeout=1000, gaps=0,
                 seconds=SECONDS_MAX):
        self.cluster = cluster
        self.marks = []
        self.history = os.path.join(cluster.scratch, "history.jsonl")
        if os.path.exists(self.history):
            os.unlink(self.history)
        self.process = subprocess.Popen(
            [os.path.join(BIN, "kvbench"), "--url", cluster.url, "--clients", str(clients),
             "--keys", str(keys), "--reads", str(reads), "--seconds", str(seconds), "--rate",
             str(rate), "--timeout", str(timeout), "--history", self.history, "-o", "json",
             *(["--gaps", str(gaps)] if gaps else [])],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        cluster.children.append(self.process)

    def mark(self):
        self.marks.append(time.monotonic_ns())

    def warm_up(self, seconds=1.5):
        """Until there is load before the fault."""
        time.sleep(seconds)
        self.still_running()
        self.mark()

    def still_running(self):
        if self.process.poll() is not None:
            raise Failed("kvbench has ended early: exit %d %s" % (
                self.process.returncode, "".join(self.process.communicate())))

    def finish(self, min_ok=200):
        """Ends the load a while after everything is well again, reads every key once more, checks
        the whole history."""
        for i in range(8):  # keys of several groups
            self.cluster.ctl("--timeout", "20s", "put", "again%d" % i, "well")
        self.mark()
        time.sleep(AFTER)
        self.still_running()
        self.process.send_signal(signal.SIGINT)
        try:
            out, err = self.process.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            raise Failed("kvbench does not end") from None
        check(self.process.returncode in (0, 1), "kvbench: exit %d: %s" %
              (self.process.returncode, err))
        self.result = json.loads(out.strip().splitlines()[-1])
        with open(self.history) as f:
            self.events = [json.loads(line) for line in f]
        self.enough(min_ok)
        final = [final_read(self.cluster, key, 1000000 + i)
                 for i, key in enumerate(sorted({e["k"] for e in self.events}))]
        self.verdict = judge(self.history, self.events, final)
        return self

    def enough(self, min_ok):
        """A run counts only if writes succeeded before the first and after the last mark."""
        acked = self.acked()
        check(len(acked) >= min_ok, "only %d writes succeeded, the run does not count: %s" %
              (len(acked), self.result))
        for what, n in (("before the fault", sum(e["t1"] < self.marks[0] for e in acked)),
                        ("after it", sum(e["t0"] > self.marks[-1] for e in acked))):
            check(n >= 50, "only %d writes succeeded %s, the run does not count" % (n, what))

    def acked(self):
        return [e for e in self.events if e["st"] == "ok" and e["op"] in ("put", "del")]

    def failures(self):
        return [e for e in self.events if e["st"] != "ok"]

    def longest_gap(self, begin=0, end=1 << 63):
        """Seconds: the longest span without a successful write in that time."""
        times = sorted(e["t1"] for e in self.acked() if begin <= e["t1"] <= end)
        return max((b - a for a, b in zip(times, times[1:])), default=0) / 1e9

    def note(self):
        bad = len(self.failures())
        return "%d writes, %d operations without success, longest gap %.2f s" % (
            len(self.acked()), bad, self.longest_gap())


def final_read(cluster, key, client):
    t0 = time.monotonic_ns()
    p = cluster.ctl("--timeout", "15s", "-o", "json", "get", key, ok=False)
    t1 = time.monotonic_ns()
    check(p.returncode in (0, 1), "final read of %s: exit %d %s" % (key, p.returncode, p.stderr))
    value = json.loads(p.stdout)["value"] if p.returncode == 0 else None
    return {"c": client, "k": key, "op": "get", "out": value, "t0": t0, "t1": t1, "st": "ok"}


def lincheck(path):
    return run_program("lincheck", path, seconds=120)


def write_history(path, events):
    with open(path, "w") as f:
        for e in events:
            f.write(json.dumps(e) + "\n")


def judge(path, events, final):
    write_history(path, events + final)
    p = lincheck(path)
    check(p.returncode == 0, "history: exit %d\n%s%s" % (p.returncode, p.stdout[-4000:], p.stderr))
    planted(path, events, final)
    return p.stdout.strip().splitlines()[-1]


def planted(path, events, final):
    """The same history as if the last acknowledged write of a key had been lost: the checker has to
    refuse it, else its verdict above is worth nothing."""
    for i, read in enumerate(final):
        writes = [e for e in events if e["k"] == read["k"] and e["op"] in ("put", "del")]
        last = [e for e in writes if e["st"] == "ok" and e.get("v") == read["out"]]
        if read["out"] is None or not last:
            continue
        before = [e for e in writes if e is not last[0]]
        # Only if nothing else may have come after it.
        if any(e["st"] == "info" or e.get("t1", 1 << 63) > last[0]["t0"] for e in before):
            continue
        older = [e["v"] for e in before if e["st"] == "ok" and e["op"] == "put"]
        lost = dict(read, out=older[-1] if older else None)
        write_history(path + ".planted", events + final[:i] + [lost] + final[i + 1:])
        p = lincheck(path + ".planted")
        check(p.returncode == 1 and "NOT linearizable" in p.stdout and read["k"] in p.stdout,
              "a planted loss of %s is not found: exit %d %s" % (last[0], p.returncode, p.stdout))
        return
    raise Failed("no key is fit for planting a loss: the checker is unproven in this run")


def bench(cluster, *args):
    """A load without a history, to its end; every operation has to succeed."""
    p = run_program("kvbench", "--url", cluster.url, "-o", "json", *args, seconds=120)
    check(p.returncode == 0, "kvbench: %s%s" % (p.stdout, p.stderr))
    result = json.loads(p.stdout.strip().splitlines()[-1])
    check(result["errors"] == 0 and result["unknown"] == 0, "kvbench: %s" % result)
    return result
