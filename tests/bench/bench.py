#!/usr/bin/env python3
"""`make bench`: the figures of the README's table, measured in one run on this machine.

Starts a playground of its own (3 placementd, 3 shardd, 8 groups) in a temporary directory and on
free ports, runs each workload three times and takes the median, beside the machine's own limits
(lone fdatasync, bare loopback echo) and, unless --no-redis, a Redis 7 cluster (three masters with
two replicas each, appendfsync always), which is measured last: each store has the machine to
itself. Prints a table and says which targets are missed.
Everything it starts it stops, by pid."""
import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BIN = os.path.join(TOP, "build", "bin")


def free_base(count, first=17000):
    """A run of free loopback ports."""
    for base in range(first, 32000, 400):
        held = []
        try:
            for port in range(base, base + count):
                s = socket.socket()
                s.bind(("127.0.0.1", port))
                held.append(s)
            return base
        except OSError:
            continue
        finally:
            for s in held:
                s.close()
    sys.exit("bench: no free ports")


def run_json(*args):
    out = subprocess.run(args, check=True, capture_output=True, text=True)
    return json.loads(out.stdout.strip().splitlines()[-1])


def median(values):
    return statistics.median(values)


class Cluster:
    """A playground of its own; the settings of `sets` are kept through stop and start."""

    def __init__(self, directory, groups=8, nodes=3, sets=(), first=17000):
        self.dir = directory
        self.base = free_base(520, first)
        self.groups, self.nodes = groups, nodes
        self.sets = sets

    def ctl(self, *args, check=True):
        p = subprocess.run([os.path.join(BIN, "kvctl"), "--url", self.url, *args],
                           capture_output=True, text=True)
        if check and p.returncode != 0:
            sys.exit("bench: kvctl %s: %s%s" % (" ".join(args), p.stdout, p.stderr))
        return p.stdout

    url = "kv://127.0.0.1:1"

    def start(self):
        self.ctl("playground", "start", "--dir", self.dir, "--base-port", str(self.base),
                 "--groups", str(self.groups), "--nodes", str(self.nodes),
                 *[x for text in self.sets for x in ("--set", text)])
        status = self.status()
        self.url = status["url"]

    def status(self):
        return json.loads(self.ctl("-o", "json", "playground", "status", "--dir", self.dir))

    def ask(self, *args, check=True):
        """A kvctl command's JSON; None if it fails and that is allowed."""
        out = self.ctl("-o", "json", *args, check=check)
        return json.loads(out) if out else None

    def pids(self, program):
        return {p["name"]: int(p["pid"]) for p in self.status()["processes"]
                if p["program"] == program}

    def stop(self):
        self.ctl("playground", "stop", "--dir", self.dir, check=False)

    def destroy(self):
        self.stop()
        shutil.rmtree(self.dir, ignore_errors=True)

    def bench_args(self, **options):
        args = [os.path.join(BIN, "kvbench"), "--url", self.url, "-o", "json"]
        for name, value in options.items():
            flag = "--" + name.replace("_", "-")
            args += [flag] if value is True else [flag, str(value)]
        return args

    def bench(self, **options):
        return run_json(*self.bench_args(**options))

    def background(self, **options):
        """The same while other things happen; result() waits for its end."""
        return Background(subprocess.Popen(self.bench_args(**options), stdout=subprocess.PIPE,
                                           stderr=subprocess.DEVNULL, text=True))


class Background:
    def __init__(self, process):
        self.process = process

    def result(self):
        out, _ = self.process.communicate()
        if not out.strip():
            sys.exit("bench: kvbench ended with %d" % self.process.returncode)
        return json.loads(out.strip().splitlines()[-1])


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid):
    with open("/proc/%d/status" % pid) as f:
        for line in f:
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    return 0.0


class Redis:
    """Nine processes: three masters with two replicas each."""

    def __init__(self, directory):
        self.dir = directory
        self.base = free_base(20, 17350)
        self.processes = []

    def start(self):
        ports = range(self.base, self.base + 9)
        for port in ports:
            d = os.path.join(self.dir, str(port))
            os.makedirs(d)
            self.processes.append(subprocess.Popen(
                ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", d,
                 "--cluster-enabled", "yes", "--cluster-port", str(port + 10), "--appendonly",
                 "yes", "--appendfsync", "always", "--save", "", "--protected-mode", "no"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        time.sleep(1)
        subprocess.run(["redis-cli", "--cluster", "create",
                        *["127.0.0.1:%d" % p for p in ports], "--cluster-replicas", "2",
                        "--cluster-yes"], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=60)
        time.sleep(3)

    def bench(self, command, clients, pipeline, size, requests):
        out = subprocess.run(
            ["redis-benchmark", "--cluster", "-h", "127.0.0.1", "-p", str(self.base), "-t", command,
             "-c", str(clients), "-P", str(pipeline), "-d", str(size), "-n", str(requests), "-r",
             "1000000", "--csv"], capture_output=True, text=True, timeout=120)
        for line in out.stdout.splitlines():
            cells = line.replace('"', "").split(",")
            if cells[0].lower() == command:
                return {"ops_per_s": float(cells[1]), "p99_ms": float(cells[6])}
        return None

    def stop(self):
        for p in self.processes:
            p.terminate()
        for p in self.processes:
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


# name, kvbench options, target ops/s, target p99 ms, redis (command, clients, pipeline, size), echo
WORKLOADS = [
    ("put, 64 clients, 64 connections", dict(clients=64, connections=64), 55000, None,
     ("set", 64, 1, 128), (64, 1)),
    ("put, 256 clients, 256 connections", dict(clients=256, connections=256), 70000, 10,
     ("set", 256, 1, 128), (256, 1)),
    ("put, 256 clients, 64 connections", dict(clients=256, connections=64), 115000, None, None,
     None),
    ("put, 64 clients x 16", dict(clients=64, connections=64, pipeline=16), 160000, None,
     ("set", 64, 16, 128), None),
    ("get, 64 clients, 64 connections", dict(clients=64, connections=64, reads=100), 95000, None,
     ("get", 64, 1, 128), (64, 1)),
    ("get, 64 clients x 16", dict(clients=64, connections=64, pipeline=16, reads=100), 300000,
     None, ("get", 64, 16, 128), None),
    ("put 1 KiB, 256 clients", dict(clients=256, connections=256, value_size=1024), 50000, None,
     ("set", 256, 1, 1024), None),
]


class Report:
    def __init__(self):
        self.rows = []
        self.rates = {}  # workload -> operations a second

    def add(self, name, value, target, ok, notes=""):
        self.rows.append((name, value, target, "yes" if ok else "MISSED", notes))
        print("  %-36s %-22s target %-14s %-7s %s" % self.rows[-1], flush=True)

    def missed(self):
        return [r for r in self.rows if r[3] == "MISSED"]

    def summary(self):
        missed = self.missed()
        print("%d of %d targets met%s" % (len(self.rows) - len(missed), len(self.rows),
                                          "; missed: " + ", ".join(r[0] for r in missed)
                                          if missed else ""))


def limits(directory, connections, pipeline, seconds):
    program = os.path.join(TOP, "build", "tests", "bench", "bench_limits")
    if not os.path.exists(program):
        sys.exit("bench: there is no %s: run make bench" % program)
    return run_json(program, "--dir", directory, "--connections", str(connections), "--pipeline",
                    str(pipeline), "--seconds", str(seconds))


def redis_rates(args):
    """Workload name -> what Redis does under it. Empty where Redis is not to be had."""
    rates = {}
    if args.no_redis or not shutil.which("redis-server"):
        return rates
    redis = Redis(tempfile.mkdtemp(prefix="kvbench-redis.", dir=args.dir))
    try:
        redis.start()
        for name, _, _, _, call, _ in WORKLOADS:
            if call and (not args.only or args.only in name):
                runs = [redis.bench(*call, requests=200000 if call[2] == 1 else 1000000)
                        for _ in range(args.runs)]
                rates[name] = sorted(filter(None, runs), key=lambda r: r["ops_per_s"])
    finally:
        redis.stop()
    return {name: runs[len(runs) // 2] for name, runs in rates.items() if runs}


def compare_redis(report, args):
    for name, r in redis_rates(args).items():
        ops = report.rates.get(name)
        if ops:
            print("  %-36s %.2f x Redis (%.0f/s, p99 %.1f ms)" %
                  (name, ops / r["ops_per_s"], r["ops_per_s"], r["p99_ms"]), flush=True)


def throughput(report, cluster, args, echo):
    for name, options, target, p99_target, _, echo_key in WORKLOADS:
        if args.only and args.only not in name:
            continue
        opts = {"keys": 100000, "seconds": args.seconds, "reads": 0, **options}
        runs = [cluster.bench(**opts) for _ in range(args.runs)]
        ops = median([r["ops_per_s"] for r in runs])
        kind = "read" if options.get("reads") == 100 else "write"
        p99 = median([r[kind]["p99_us"] for r in runs]) / 1000
        cpu = median([r["generator_cpu"] for r in runs])
        bad = sum(r["errors"] + r["unknown"] for r in runs)
        notes = "p50 %.2f ms p99 %.1f ms, generator %.2f cores" % (
            median([r[kind]["p50_us"] for r in runs]) / 1000, p99, cpu)
        if cpu > os.cpu_count() / 2:
            notes += " (MORE THAN HALF THE MACHINE)"
        if bad:
            notes += ", %d ERRORS" % bad
        if echo_key:
            notes += ", %.2f of echo" % (ops / echo[echo_key])
        report.rates[name] = ops
        ok = ops >= target and (p99_target is None or p99 < p99_target) and not bad
        report.add(name, "%d/s" % ops, ">= %d/s" % target, ok, notes)


def single(report, cluster, args, fdatasync_p50):
    if args.only and args.only not in "put, 1 client":
        return
    runs = [cluster.bench(clients=1, reads=0, keys=100000, seconds=args.seconds) for _ in range(args.runs)]
    p50 = median([r["write"]["p50_us"] for r in runs])
    report.add("put, 1 client, 1 outstanding", "p50 %.0f us" % p50,
               "<= %.0f us" % (3 * fdatasync_p50), p50 <= 3 * fdatasync_p50,
               "%.1f x a lone fdatasync of %.0f us" % (p50 / fdatasync_p50, fdatasync_p50))


def large(report, cluster, args):
    if args.only and args.only not in "1 MiB values":
        return
    pids = cluster.pids("shardd")
    runs = [cluster.bench(clients=4, reads=0, keys=64, value_size=1 << 20, seconds=args.seconds)
            for _ in range(args.runs)]
    rate = median([r["ops_per_s"] for r in runs]) * (1 << 20) / 1e6
    report.add("put 1 MiB values", "%.0f MB/s" % rate, ">= 60 MB/s", rate >= 60,
               "largest shardd %.0f MiB resident" % max(rss_mib(p) for p in pids.values()))


def idle(report, args):
    if args.only and args.only not in "idle":
        return
    d = tempfile.mkdtemp(prefix="kvbench-idle.")
    cluster = Cluster(d, groups=64)
    try:
        cluster.start()
        time.sleep(5)
        pids = list(cluster.pids("shardd").values())
        before = {p: cpu_seconds(p) for p in pids}
        time.sleep(10)
        cpu = max(cpu_seconds(p) - before[p] for p in pids) / 10 * 100
        rss = max(rss_mib(p) for p in pids)
        report.add("memory, 64 idle replicas", "%.0f MB" % (rss * 1.048576), "< 100 MB",
                   rss * 1.048576 < 100)
        report.add("CPU, 64 idle replicas", "%.2f %%" % cpu, "< 2 %", cpu < 2)
    finally:
        cluster.destroy()


def first_put(cluster, limit=20):
    """Seconds until a put succeeds on every group (one key a group at least)."""
    t0 = time.monotonic()
    while time.monotonic() - t0 < limit:
        p = subprocess.run([os.path.join(BIN, "kvctl"), "--url", cluster.url, "--timeout", "1s",
                            "put", "first", "x"], capture_output=True)
        if p.returncode == 0:
            return time.monotonic() - t0
    return limit


def restart(report, cluster, args):
    if args.only and args.only not in "restart":
        return
    cluster.bench(clients=64, pipeline=16, keys=1000000, load=True, seconds=1)
    times = []
    for _ in range(args.runs):
        for pid in cluster.pids("shardd").values():
            os.kill(pid, 9)
        time.sleep(0.5)
        t0 = time.monotonic()
        child = subprocess.Popen([os.path.join(BIN, "kvctl"), "playground", "start", "--dir",
                                  cluster.dir, "--base-port", str(cluster.base)],
                                 stdout=subprocess.DEVNULL)
        first_put(cluster)
        times.append(time.monotonic() - t0)
        child.wait()
    report.add("restart of all, 1 M keys, to first put", "%.2f s" % median(times), "< 3 s",
               median(times) < 3)


def failover(report, cluster, args):
    if args.only and args.only not in "failover":
        return
    gaps = []
    for i in range(args.runs):
        name, pid = sorted(cluster.pids("shardd").items())[i % 3]
        load = cluster.background(clients=16, reads=0, keys=10000, seconds=5, gaps=cluster.groups)
        time.sleep(2)
        os.kill(pid, 9)
        gaps.append(load.result()["max_write_gap_ms"] / 1000)
        cluster.ctl("playground", "start", "--dir", cluster.dir, "--base-port", str(cluster.base))
        time.sleep(3)
    report.add("failover after kill -9 of a leader", "%.2f s" % median(gaps), "< 1.5 s",
               max(gaps) < 1.5, "longest span without a put in any shard; worst %.2f s" %
               max(gaps))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--seconds", type=int, default=5)
    p.add_argument("--no-redis", action="store_true")
    p.add_argument("--only", default="", help="only workloads whose name contains this")
    p.add_argument("--dir", default=None, help="where the data goes (a real disk)")
    args = p.parse_args()
    report = Report()
    directory = tempfile.mkdtemp(prefix="kvbench.", dir=args.dir)
    cluster = Cluster(directory)
    try:
        base = limits(directory, 64, 1, 2)
        echo = {(c, 1): limits(directory, c, 1, 2)["echo_per_s"] for c in (64, 256)}
        print("machine: fdatasync p50 %.0f us, %.0f/s; echo %.0f/s with 64 connections, %.0f/s "
              "with 256; %d processors" % (base["fdatasync_p50_us"], base["fdatasync_per_s"],
                                           echo[(64, 1)], echo[(256, 1)], os.cpu_count()))
        cluster.start()
        cluster.bench(clients=64, pipeline=16, keys=100000, load=True, seconds=1)
        single(report, cluster, args, base["fdatasync_p50_us"])
        throughput(report, cluster, args, echo)
        large(report, cluster, args)
        failover(report, cluster, args)
        restart(report, cluster, args)
        cluster.stop()
        idle(report, args)
        compare_redis(report, args)
    finally:
        cluster.destroy()
    report.summary()


if __name__ == "__main__":
    main()
