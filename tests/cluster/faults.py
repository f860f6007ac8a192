"""Processes killed, paused, stopped and wiped under load."""
import os
import shutil
import subprocess
import time

from load import Load, bench
from playground import BIN, check, run_program, wait_until


def kill_leader(c):
    load = Load(c)
    load.warm_up()
    before = c.leaders()
    victim = c.leader_node()
    c.kill(victim)
    moved = c.wait_led_by_others(victim, before)
    c.start(victim)
    load.finish()
    return "%d groups moved; %s" % (moved, load.note())


def leader_killed(c):
    """kill -9 of the node that leads most groups; the others take over, it comes back."""
    return kill_leader(c)


def leader_killed_two_cores(c):
    """The same with two core threads a node: groups, peers and clients cross cores."""
    check(all("cores=2" in c.log(n) for n in c.shardds()), "the nodes have not two cores")
    return kill_leader(c)


def majority_killed(c):
    """kill -9 of two of three nodes at once: nothing is acknowledged until one is back."""
    load = Load(c)
    load.warm_up()
    old = c.pid("n1"), c.pid("n2")
    c.kill("n1", "n2")
    t0 = time.monotonic_ns()
    time.sleep(1.5)
    t1 = time.monotonic_ns()
    c.start("n1")
    c.start("n2")
    check(not {c.pid("n1"), c.pid("n2")} & set(old), "the nodes have not been started anew")
    load.finish()
    # A write whose answer was on its way at the kill is allowed for.
    wrong = [e for e in load.acked() if e["t0"] > t0 and e["t1"] < t1]
    check(not wrong, "acknowledged without a majority: %s" % wrong[:3])
    return load.note()


def all_killed(c):
    """kill -9 of every shardd at the same moment, twice: what was acknowledged is there."""
    load = Load(c)
    for _ in range(2):
        load.warm_up()
        c.kill(*c.shardds())
        c.start()
        load.mark()
    load.finish()
    return load.note()


def put_then_kill_all(c):
    """A put answered OK survives kill -9 of everything, placementd too, the next moment."""
    for i in range(3):
        c.ctl("put", "durable%d" % i, "value%d" % i)
        c.kill(*c.names())
        c.start()
    for i in range(3):
        out = c.ctl("get", "durable%d" % i).stdout.strip()
        check(out == "value%d" % i, "durable%d is %r" % (i, out))
    return ""


def placement_down(c):
    """Reads and writes go on while all of placementd is down; a node that restarts meanwhile works
    with the map it has kept."""
    load = Load(c, timeout=4000)
    load.warm_up()
    c.kill("p1", "p2", "p3")
    check(c.ctl("--timeout", "300ms", "status", ok=False).returncode != 0, "placementd is not down")
    t0 = time.monotonic_ns()
    time.sleep(1)
    c.kill("n1")
    at = len(c.log("n1"))
    # The command cannot see that it is ready, the log can.
    c.start("n1", ok=False, options=("--timeout", "100ms"))
    c.wait_log("n1", " ready ", after=at)
    time.sleep(1)
    c.kill("n2")  # now n1 has to be part of every majority
    t1 = time.monotonic_ns()
    time.sleep(2.5)
    t2 = time.monotonic_ns()
    c.start()
    load.finish()
    during = sum(t0 < e["t0"] < t1 for e in load.acked())
    late = sum(e["t0"] > t1 and e["t1"] < t2 for e in load.acked())
    check(during > 100, "only %d writes while placementd was down" % during)
    check(late > 0, "no write with the node that was restarted without placementd")
    check(load.result["errors"] == 0, "refused while placementd was down: %s" % load.failures()[:3])
    return "%d and %d writes without placementd; %s" % (during, late, load.note())


def leader_paused(c):
    """SIGSTOP of a leader: others take over; continued, it serves nothing stale and follows."""
    load = Load(c)
    load.warm_up()
    before = c.leaders()
    victim = c.leader_node()
    c.pause(victim)
    moved = c.wait_led_by_others(victim, before)
    time.sleep(1)
    c.resume()
    load.finish()
    c.wait_healthy()
    return "%d groups moved; %s" % (moved, load.note())


def follower_by_snapshot(c):
    """A follower that missed more than the logs hold is brought back by snapshots, under load."""
    c.kill("n3")
    bench(c, "--clients", "32", "--pipeline", "4", "--reads", "0", "--keys", "3000",
          "--value-size", "4000", "--ops", "100000")
    load = Load(c)
    load.warm_up(1)
    at = len(c.log("n3"))
    c.start("n3")
    groups = sorted(c.leaders())
    wait_until(lambda: "n3 has installed snapshots\n" + c.tail("n3"),
               lambda: "snapshot_installed" in c.log("n3")[at:], 40)
    load.finish()
    wait_until(lambda: "n3 has caught up: %s" % lag(c, "n3"),
               lambda: all(n == 0 for n in lag(c, "n3").values()), 20)
    c.kill("n1")  # n3 is needed for a majority now, in every group
    for g in groups:
        c.ctl("--timeout", "10s", "put", "after%s" % g, "snapshot")
    c.start("n1")
    n = c.log("n3")[at:].count("snapshot_installed")
    return "%d snapshots; %s" % (n, load.note())


def lag(c, name):
    """{group: entries by which the node is behind its leader}"""
    s = wait_until("kvctl status", c.status)
    node = [n["id"] for n in s["nodes"] if n["name"] == name][-1]
    out = {}
    for g in s["groups"]:
        match = {r["node"]: int(r["match"]) for r in g["replicas"]}
        out[g["id"]] = match.get(g["leader"], 1 << 62) - match.get(node, 0)
    return out


def graceful_stop(c):
    """SIGTERM of a leader under load: leadership is handed over first, no operation fails."""
    load = Load(c, timeout=4000)
    load.warm_up()
    before = c.leaders()
    victim = c.leader_node()
    mine = [g for g, (name, _) in before.items() if name == victim]
    t0 = time.monotonic_ns()
    c.stop(victim)
    took = (time.monotonic_ns() - t0) / 1e9
    c.wait_led_by_others(victim, before)
    load.finish()
    log = c.log(victim)
    check(" stopping " in log and " stopped " in log and "stop_hurried" not in log,
          "not a clean stop:\n" + c.tail(victim))
    check(not load.failures(), "failed during a planned stop: %s" % load.failures()[:5])
    gap = load.longest_gap(t0, t0 + 3 * 10**9)
    check(gap < 0.7, "%.2f s without a write during a planned stop" % gap)
    c.start(victim)
    return "%d groups handed over, stopped in %.2f s, gap %.3f s" % (len(mine), took, gap)


def wiped_node(c):
    """A node whose directory is gone comes back as another node. Its old replicas' promises are
    gone with it, so it must not vote under the old id: with n1 down too there is no majority.
    placementd would heal that, so it is away meanwhile."""
    load = Load(c)
    load.warm_up()
    ids = node_ids(c, "n3")
    c.kill("n3")
    shutil.rmtree(os.path.join(c.dir, "n3"))
    at = len(c.log("n3"))
    c.start("n3")
    c.wait_log("n3", "registered", after=at)
    c.kill("p1", "p2", "p3")
    check(not os.listdir(os.path.join(c.dir, "n3", "groups")), "it holds replicas of its old id")
    url = "kv://" + ",".join("127.0.0.1:%d" % (c.base + i) for i in (1, 2, 3))

    def put(key):
        return run_program("kvctl", "--url", url, "--timeout", "500ms", "put", key, "x").returncode
    for i in range(8):
        wait_until("two replicas of three take writes", lambda: put("none%d" % i) == 0)
    c.kill("n1")
    for i in range(8):  # keys of several groups
        check(put("none%d" % i) != 0, "a write was acknowledged by one replica of three")
    c.start()
    wait_until("writes go on with n1 back", lambda: put("back") == 0)
    now = node_ids(c, "n3")
    check(len(now) == 2 and ids[0] in now, "n3 was node %s, now there are %s" % (ids, now))
    load.finish()
    return "node %s became %s; %s" % (ids[0], now[-1], load.note())


def node_ids(c, name):
    s = wait_until("kvctl status", c.status)
    return sorted((n["id"] for n in s["nodes"] if n["name"] == name), key=int)


def crash_loop(c):
    """A node killed again and again while it recovers: it always comes up again."""
    load = Load(c)
    load.warm_up(1)
    victim = c.leader_node()
    c.kill(victim)
    path = os.path.join(c.dir, "log", victim + ".log")
    recovered = 0
    for i in range(10):
        at = len(c.log(victim))
        with open(path, "a") as log:
            p = subprocess.Popen([os.path.join(BIN, "shardd"), *c.shardd_args(victim)],
                                 stdout=log, stderr=log)
        c.children.append(p)
        time.sleep(0.012 * (i + 1))
        check(p.poll() is None, "%s does not start after a kill -9\n%s" % (victim, c.tail(victim)))
        p.kill()
        p.wait()
        recovered += " ready " in c.log(victim)[at:]
    check(recovered < 10, "no kill came before the end of recovery")
    c.start(victim)
    load.finish()
    return "%d of 10 kills during recovery; %s" % (10 - recovered, load.note())


def majority_paused(c):
    """Two of three nodes and of placementd paused: nothing is acknowledged meanwhile, and all goes
    on when they are continued."""
    load = Load(c)
    load.warm_up()
    for name in ("n1", "n2", "p1", "p2"):
        c.pause(name)
    t0 = time.monotonic_ns()
    time.sleep(2)
    t1 = time.monotonic_ns()
    for _ in range(4):
        c.resume()
    load.finish()
    wrong = [e for e in load.acked() if e["t0"] > t0 and e["t1"] < t1]
    check(not wrong, "acknowledged without a majority: %s" % wrong[:3])
    c.wait_healthy()
    return load.note()
