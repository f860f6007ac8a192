#!/usr/bin/env python3
"""`make bench-app`: what the promises to applications cost, measured against their absence.

Each figure compares two loads, A and B, that run in turns (A B, B A, A B ...) on the same playground,
so that what else the machine does meets both; it is the median of the ratios of the pairs. Two
playgrounds are needed where servers differ in a setting (the read lease); one of them idles while
the other one is measured. Prints a table; the last line says which targets are missed."""
import argparse
import os
import tempfile

from bench import Cluster, Report, cpu_seconds, median


class Failed(Exception):
    pass


def run(cluster, options, seconds):
    """One load. "cpu_us": of the servers, for one operation, loading included."""
    pids = cluster.pids("shardd").values()
    before = sum(cpu_seconds(p) for p in pids)
    r = cluster.bench(**{"seconds": seconds, **options})
    if r["errors"] or r["unknown"]:
        raise Failed("%d errors, %d unknown with %s" % (r["errors"], r["unknown"], options))
    r["cpu_us"] = (sum(cpu_seconds(p) for p in pids) - before) * 1e6 / r["ok"]
    return r


def in_turns(a, b, runs):
    """[(result of a, result of b)]; every other pair begins with b."""
    pairs = []
    for i in range(runs):
        if i % 2 == 0:
            first = a()
            pairs.append((first, b()))
        else:
            second = b()
            pairs.append((a(), second))
    return pairs


def compare(pairs, value):
    """Median of value(a), of value(b) and of value(a) / value(b)."""
    a, b = [value(x) for x, _ in pairs], [value(y) for _, y in pairs]
    return median(a), median(b), median([x / y for x, y in zip(a, b)])


def rate(kind):
    return lambda r: r[kind]["keys_per_s"]


def p50(r):
    return r["read"]["p50_us"]


PUTS = dict(reads=0, keys=100000)
GETS = dict(reads=100, keys=100000)
FEW = dict(clients=64, connections=64)
MANY = dict(clients=256, connections=64)
DEEP = dict(clients=64, connections=64, pipeline=16)


def wanted(args, name):
    return not args.only or args.only in name


def throughput(report, args, cluster, name, a, b, kind, least, what):
    """`what`: "%s against %s", filled with the two rates."""
    if not wanted(args, name):
        return
    pairs = in_turns(lambda: run(cluster, a, args.seconds), lambda: run(cluster, b, args.seconds),
                     args.runs)
    mine, other, ratio = compare(pairs, rate(kind))
    cpu = compare(pairs, lambda r: r["cpu_us"] * r["ops_per_s"] / rate(kind)(r))
    report.add(name, "%.2f x" % ratio, ">= %.2f x" % least, ratio >= least,
               what % ("%.0f/s" % mine, "%.0f/s" % other) +
               "; servers' CPU a key %.0f and %.0f us, %.2f x" % cpu)


def lease(report, args, cluster, with_lease):
    name = "get with the lease, p50"
    if not wanted(args, name):
        return
    for label, load in (("1 client", dict(clients=1)), ("64 clients", dict(clients=64))):
        options = {**GETS, **load}
        pairs = in_turns(lambda: run(with_lease, options, args.seconds),
                         lambda: run(cluster, options, args.seconds), args.runs)
        mine, other, ratio = compare(pairs, p50)
        report.add("%s, %s" % (name, label), "%.0f us" % mine, "< ReadIndex's", ratio < 1,
                   "%.0f us by ReadIndex; %.2f x" % (other, ratio))


def levels(report, args, cluster, with_lease):
    """What each read level costs; for the README, without targets."""
    name = "levels"
    if not wanted(args, name):
        return
    rows = [("linearizable, ReadIndex", cluster, "linearizable"),
            ("linearizable, lease", with_lease, "linearizable"), ("session", cluster, "session"),
            ("bounded:500ms", cluster, "bounded:500"), ("any", cluster, "any")]
    results = {row[0]: ([], []) for row in rows}
    for _ in range(args.runs):
        for label, where, level in rows:
            one = run(where, dict(GETS, clients=1, read=level), args.seconds)
            many = run(where, dict(GETS, **MANY, read=level), args.seconds)
            results[label][0].append(one)
            results[label][1].append(many)
    for label, (one, many) in results.items():
        print("  get %-24s 1 client p50 %4.0f us   256 clients %6.0f/s, p50 %.2f ms, "
              "servers' CPU %.1f us a get" % (label, median([p50(r) for r in one]),
                                              median([r["ops_per_s"] for r in many]),
                                              median([p50(r) for r in many]) / 1000,
                                              median([r["cpu_us"] for r in many])), flush=True)


def measure(report, args, cluster, with_lease):
    for label, load in (("64 clients", FEW), ("256 clients", MANY), ("64 clients x 16", DEEP)):
        throughput(report, args, cluster, "exactly-once puts, " + label, {**PUTS, **load},
                   {**PUTS, **load, "no_session": True}, "write", 0.95,
                   "%s with sessions, %s without")
    throughput(report, args, cluster, "get any, 256 clients", {**GETS, **MANY, "read": "any"},
               {**GETS, **MANY}, "read", 1.5, "%s any, %s linearizable")
    lease(report, args, cluster, with_lease)
    conditional = dict(PUTS, keys=20000, load=True)
    throughput(report, args, cluster, "conditional puts, 256 clients",
               {**conditional, **MANY, "if_version": True}, {**conditional, **MANY}, "write", 0.8,
               "%s if-version, %s plain")
    throughput(report, args, cluster, "mget of 100, 1 client", {**GETS, "clients": 1, "mget": 100},
               {**GETS, "clients": 1}, "read", 10, "%s keys by mget, %s by single gets")
    throughput(report, args, cluster, "batch of 100, 1 client",
               {**PUTS, "clients": 1, "batch": 100}, {**PUTS, "clients": 1}, "write", 10,
               "%s keys by batches, %s by single puts")
    levels(report, args, cluster, with_lease)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--runs", type=int, default=5)
    p.add_argument("--seconds", type=float, default=3)
    p.add_argument("--only", default="", help="only figures whose name contains this")
    p.add_argument("--dir", default=None, help="where the data goes (a real disk)")
    args = p.parse_args()
    report = Report()
    cluster = Cluster(tempfile.mkdtemp(prefix="kvbench.", dir=args.dir))
    with_lease = Cluster(tempfile.mkdtemp(prefix="kvbench.", dir=args.dir),
                         sets=("raft.read-lease=true",), first=cluster.base + 800)
    try:
        for c in (cluster, with_lease):
            c.start()
            c.bench(clients=64, pipeline=16, keys=100000, load=True, seconds=1)
        print("%d pairs of runs of %g s each, %d processors" % (args.runs, args.seconds,
                                                                os.cpu_count()), flush=True)
        measure(report, args, cluster, with_lease)
    finally:
        cluster.destroy()
        with_lease.destroy()
    missed = report.missed()
    print("%d of %d targets met%s" % (len(report.rows) - len(missed), len(report.rows),
                                      "; missed: " + ", ".join(r[0] for r in missed)
                                      if missed else ""))


if __name__ == "__main__":
    main()
