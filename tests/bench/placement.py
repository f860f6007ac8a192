#!/usr/bin/env python3
"""`make bench-placement`: what placement costs the clients of a cluster, and placementd itself.

Playgrounds of real processes under kvbench: shards move, leaders are handed over, groups split, a
node is lost. Gaps are kvbench's: the longest span without a successful write in any of as many slot
ranges as there are groups, so that one group that stands still shows. The whole load counts: 5 s of
it around the change. Each figure is the median of three runs. Prints a table and says which targets
are missed. Everything it starts it stops, by pid."""
import argparse
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import bench
from bench import TOP, Cluster, Report, cpu_seconds, free_base, median, run_json

# Of the gaps: writes evenly spread, four slot ranges, about an eighth of what two cores can do.
LOAD = dict(clients=64, reads=0, rate=8000, keys=100000, gaps=4, seconds=5)
BEFORE = 1.5  # seconds of load before the change
MIB = 1 << 20


# ---- what the cluster is asked ----

def names(cluster):
    return {n["id"]: n["name"] for n in cluster.ask("nodes")["nodes"] if n["state"] == "up"}


def group(cluster, index=0):
    """A group by its position: (id, leading node, other nodes with a replica, nodes without)."""
    node = names(cluster)
    g = cluster.ask("groups")["groups"][index]
    on = [node[r["node"]] for r in g["replicas"]]
    leader = node.get(g["leader"]) or sys.exit("bench: group %s has no leader" % g["id"])
    return ("g" + g["id"], leader, [n for n in on if n != leader],
            [n for n in node.values() if n not in on])


def quiet(cluster, seconds=60):
    """Until nothing is under way."""
    end = time.monotonic() + seconds
    while cluster.ask("operator", "list")["operators"]:
        if time.monotonic() > end:
            sys.exit("bench: %s" % cluster.ctl("operator", "list"))
        time.sleep(0.1)


def wait_up(cluster, seconds=30):
    end = time.monotonic() + seconds
    while not (cluster.ask("status", check=False) or {}).get("health") == "ok":
        if time.monotonic() > end:
            sys.exit("bench: %s" % cluster.ctl("status", check=False))
        time.sleep(0.1)


# ---- gaps ----

def under_load(cluster, change):
    """The gap in ms, how many operations failed, seconds that the change took."""
    load = cluster.background(**LOAD)
    time.sleep(bench_warmup(cluster) + BEFORE)
    t0 = time.monotonic()
    change()
    took = time.monotonic() - t0
    r = load.result()
    if took + BEFORE > LOAD["seconds"]:
        sys.exit("bench: the change took %.1f s, longer than the load" % took)
    return r["max_write_gap_ms"], r["errors"] + r["unknown"], took, r["write"]["p99_us"] / 1000


def bench_warmup(_cluster):
    return 0.5  # kvbench's own, not measured


def gap(report, cluster, name, target, make, runs):
    """make(run) gives the change to make, after what has to be prepared outside of the load."""
    results = [under_load(cluster, make(run)) for run in range(runs)]
    gaps, failed = [r[0] for r in results], sum(r[1] for r in results)
    base = [under_load(cluster, lambda: None)[0] for _ in range(runs)]
    report.add(name, "%.0f ms" % median(gaps), "<= %d ms" % target,
               median(gaps) <= target and not failed,
               "worst %.0f ms, without it %.0f ms; took %.2f s; p99 %.1f ms, %d operations failed" % (
                   max(gaps), median(base), median([r[2] for r in results]),
                   median([r[3] for r in results]), failed))


def moves(cluster):
    def make(run):
        quiet(cluster)
        g, leader, _, free = group(cluster, run % cluster.groups)
        return lambda: cluster.ctl("group", "move-replica", g, leader, free[0])
    return make


def transfers(cluster):
    def make(run):
        g, _, others, _ = group(cluster, run % cluster.groups)
        return lambda: cluster.ctl("group", "transfer-leader", g, others[0])
    return make


def splits(cluster):
    def make(run):
        quiet(cluster)
        g = "g%d" % (run % cluster.groups + 1)
        return lambda: cluster.ctl("group", "split", g)
    return make


def gaps(report, args):
    cluster = Cluster(tempfile.mkdtemp(prefix="kvbench.", dir=args.dir), groups=4, nodes=4)
    try:
        cluster.start()
        cluster.ctl("rebalance", "pause")
        cluster.bench(clients=64, pipeline=4, keys=100000, value_size=1024, load=True, seconds=1)
        for name, target, of in (("shard move under load, gap", 100, moves),
                                 ("planned leader transfer, gap", 50, transfers),
                                 ("split under load, gap", 50, splits)):
            if args.only in name:
                gap(report, cluster, name, target, of(cluster), args.runs)
        if args.only in "map update":
            map_update(report, cluster, args.runs)
    finally:
        cluster.destroy()


# ---- a map update ----

def mp(value):
    """MessagePack of what a request needs; every text shorter than 32 bytes."""
    if isinstance(value, str):
        return bytes([0xa0 + len(value)]) + value.encode()
    if isinstance(value, int):
        return b"\xcf" + struct.pack(">Q", value)
    if isinstance(value, list):
        return bytes([0x90 + len(value)]) + b"".join(map(mp, value))
    return bytes([0x80 + len(value)]) + b"".join(mp(k) + mp(v) for k, v in value.items())


class Watcher(threading.Thread):
    """A client that watches the map of one member; knows when a text came by."""

    def __init__(self, address):
        super().__init__(daemon=True)
        self.at = {}
        self.seen = b""
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.sendall(mp([0, 1, "map.watch", []]))
        self.start()

    def run(self):
        while True:
            data = self.socket.recv(1 << 20)
            if not data:
                return
            now = time.monotonic()
            self.seen = (self.seen + data)[-(1 << 20):]
            for text in list(self.at):
                if self.at[text] is None and text in self.seen:
                    self.at[text] = now


def map_update(report, cluster, runs):
    """From the moment at which a change is asked for (a node registers) to the watchers of all
    three members; the commit by a majority of placementd is in it."""
    members = cluster.ask("cluster", "members")["members"]
    leader = next(m for m in members if m["leader"])
    host, port = leader["address"].split(":")
    watchers = [Watcher(m["address"]) for m in members]
    time.sleep(1)
    took = []
    for run in range(runs):
        name = "bench-node-%d" % run
        for w in watchers:
            w.at[name.encode()] = None
        with socket.create_connection((host, int(port))) as s:
            t0 = time.monotonic()
            s.sendall(mp([0, 1, "node.register",
                          [{"name": name, "inc": run + 1, "zone": "", "host": name,
                            "client": "127.0.0.1:%d" % (1000 + run),
                            "peer": "127.0.0.1:%d" % (2000 + run), "cores": 1}]]))
            s.recv(4096)
            time.sleep(1)
        times = [w.at[name.encode()] for w in watchers]
        if None in times:
            sys.exit("bench: a watcher was not told of %s" % name)
        took.append((max(times) - t0) * 1000)
    report.add("map update to a watching client", "%.0f ms" % median(took), "<= 100 ms",
               median(took) <= 100, "worst %.0f ms; the last of the watchers of three members" %
               max(took))


# ---- a large replica ----

LARGE = dict(keys=16384, value_size=65536)
FOREGROUND = dict(clients=32, reads=50, rate=4000, keys=16384, value_size=128, seconds=6)


def large_cluster(args, rate):
    return Cluster(tempfile.mkdtemp(prefix="kvbench.", dir=args.dir), groups=1, nodes=4,
                   sets=("placement.move-rate=" + rate, "wal.segment-size=64MiB"))


def move_leader(cluster):
    """Moves the replica that leads; returns seconds and bytes."""
    quiet(cluster)
    g, leader, _, free = group(cluster)
    size = next(x["bytes"] for x in cluster.ask("groups")["groups"] if "g" + x["id"] == g)
    t0 = time.monotonic()
    cluster.ctl("group", "move-replica", g, leader, free[0])
    return time.monotonic() - t0, size


def fill(cluster):
    cluster.start()
    cluster.ctl("rebalance", "pause")
    cluster.bench(clients=4, pipeline=2, load=True, seconds=1, **LARGE)
    time.sleep(8)  # sizes are reported, flushes and compactions end


def large(report, args):
    name = "moving a replica of 1 GiB"
    if args.only not in name + ", foreground p99 with a budget":
        return
    cluster = large_cluster(args, "0")
    try:
        fill(cluster)
        done = [move_leader(cluster) for _ in range(args.runs)]
        rate = median([size / took for took, size in done]) / MIB
        report.add(name, "%.0f MiB/s" % rate, ">= 100 MiB/s", rate >= 100,
                   "%.2f GiB; all of the move, from the order to the old replica's end; %s s" % (
                       done[0][1] / MIB / 1024, ", ".join("%.1f" % d[0] for d in done)))
        budget(report, cluster, args)
    finally:
        cluster.destroy()


def budget(report, cluster, args):
    cluster.stop()
    cluster.sets = ("placement.move-rate=" + args.budget,)
    cluster.start()
    wait_up(cluster)
    ratios, notes = [], []
    for _ in range(args.runs):
        quiet(cluster)
        alone = cluster.bench(**FOREGROUND)
        g, leader, _, free = group(cluster)
        cluster.ctl("group", "move-replica", g, leader, free[0], "--detach")
        time.sleep(0.5)
        beside = cluster.bench(**FOREGROUND)
        if not cluster.ask("operator", "list")["operators"]:
            notes.append("THE MOVE ENDED FIRST")
        p99 = [max(r["read"]["p99_us"], r["write"]["p99_us"]) / 1000 for r in (alone, beside)]
        bad = sum(r["errors"] + r["unknown"] for r in (alone, beside))
        notes.append("%.1f -> %.1f ms%s" % (*p99, ", %d FAILED" % bad if bad else ""))
        ratios.append(p99[1] / p99[0])
    quiet(cluster, 120)
    report.add("foreground p99 with a budget of %s/s" % args.budget, "%.2f x" % median(ratios),
               "< 2 x", median(ratios) < 2 and "FAIL" not in "".join(notes), "; ".join(notes))


# ---- a node lost ----

DOWN_AFTER = 5


def lost(report, args):
    name = "node lost to first replacement"
    if args.only not in name:
        return
    cluster = Cluster(tempfile.mkdtemp(prefix="kvbench.", dir=args.dir), groups=8, nodes=4,
                      sets=("placement.suspect-after=1s", "placement.down-at=2s",
                            "placement.down-after=%ds" % DOWN_AFTER))
    try:
        cluster.start()
        took = [lose_one(cluster, run) for run in range(args.runs)]
    finally:
        cluster.destroy()
    worst = max(took)
    report.add(name, "%.1f s" % median(took), "<= %d + 2 s" % DOWN_AFTER, worst <= DOWN_AFTER + 2,
               "placement.down-after=%ds; worst %.1f s" % (DOWN_AFTER, worst))


def replacements(cluster):
    """Ids of the operators that replace a replica, now and lately."""
    ops = cluster.ask("operator", "list")
    return {o["id"] for o in ops["operators"] + ops["finished"] if o["kind"] == "replace"}


def lose_one(cluster, run):
    quiet(cluster)
    wait_up(cluster)
    load = cluster.background(clients=16, rate=2000, keys=10000, seconds=DOWN_AFTER + 5)
    time.sleep(1)
    victim, pid = sorted(cluster.pids("shardd").items())[run % cluster.nodes]
    known = replacements(cluster)
    os.kill(pid, 9)
    t0 = time.monotonic()
    while replacements(cluster) <= known:
        if time.monotonic() - t0 > 60:
            sys.exit("bench: nothing replaces %s" % victim)
        time.sleep(0.05)
    took = time.monotonic() - t0
    load.result()
    quiet(cluster)
    cluster.start()
    return took


# ---- placementd itself ----

def heartbeats(report, args):
    """1,000 senders on real connections, one heartbeat a second of 16 replicas each."""
    name = "1,000 nodes' heartbeats"
    if args.only not in name:
        return
    shares = []
    for _ in range(args.runs):
        directory = tempfile.mkdtemp(prefix="kvbench.", dir=args.dir)
        port = free_base(2, 18000)
        alone = subprocess.Popen(
            [os.path.join(bench.BIN, "placementd"), "--set", "node.data-dir=" + directory + "/p",
             "--set", "listen.client=127.0.0.1:%d" % port, "--set", "listen.peer=127.0.0.1:%d" %
             (port + 1), "--set", "cluster.members=1=127.0.0.1:%d" % (port + 1)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(2)
            shares.append(run_json(tool("bench_placement"), "--nodes", "1000", "--groups", "5333",
                                   "--seconds", "10", "--connect", "127.0.0.1:%d" % port, "--pid",
                                   str(alone.pid))["core_percent"])
        finally:
            alone.terminate()
            alone.wait()
            shutil.rmtree(directory, ignore_errors=True)
    report.add(name, "%.1f %% of a core" % median(shares), "< 25 %", median(shares) < 25,
               "16 replicas each, one heartbeat a second")


def tool(name):
    return os.path.join(TOP, "build", "tests", "bench", name)


def planner(report, args):
    name = "planner, 500 nodes, 16,384 groups"
    if args.only not in name:
        return
    p = subprocess.run([tool("bench_planner")], capture_output=True, text=True)
    print(p.stdout, end="")
    longest = max(float(line.split("longest")[1].split()[0]) for line in p.stdout.splitlines()
                  if "longest" in line)
    memory = next(line for line in p.stdout.splitlines() if "peak memory" in line)
    report.add(name, "%.0f ms a round" % longest, "< 1 s", p.returncode == 0 and longest < 1000,
               "the longest of all; it converges; " + memory)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--only", default="", help="only figures whose name contains this")
    p.add_argument("--budget", default="32MiB", help="placement.move-rate for the foreground's p99")
    p.add_argument("--dir", default=None, help="where the data goes (a real disk)")
    args = p.parse_args()
    report = Report()
    print("load of the machine at the start: %.1f (%d processors)" % (os.getloadavg()[0],
                                                                      os.cpu_count()))
    gaps(report, args)
    large(report, args)
    lost(report, args)
    heartbeats(report, args)
    planner(report, args)
    report.summary()


if __name__ == "__main__":
    main()
