"""Placement under load: clusters that grow, shrink, lose nodes, split, merge and restart while
clients work, with the leader of placementd killed in the middle of each.

Every test ends with settled(): three healthy replicas of every group on living nodes, nothing under
way, no replica's directory that no group lists; then with every acknowledged value read back."""
import json
import os
import random
import shutil
import subprocess
import time

from load import Load
from operate import calm, ctl_json, grow, groups, nodes
from playground import check, program, run_program, wait_until

# Without placementd; the acceptance test of a release takes 60.
AWAY_SECONDS = float(os.environ.get("KV_PLACEMENT_AWAY", "20"))
# Moves slow enough that a fault hits in the middle of them.
SLOW_MOVES = "placement.move-rate=2MiB"
SOON_DOWN = ("placement.suspect-after=1s", "placement.down-at=1500ms", "placement.down-after=2500ms")
RANGES = 8


class Data:
    """Many keys, written once: they have to be where their slots go."""

    def __init__(self, c, keys=600, size=8000):
        rng = random.Random(c.base)
        self.cluster = c
        self.values = {"data%d" % i: "%d-%0*x" % (i, size, rng.getrandbits(4 * size))
                       for i in range(keys)}
        lines = "".join("put %s %s\n" % kv for kv in self.values.items())
        out = c.ctl("shell", stdin=lines).stdout
        check(out.count("ok version=") == keys, "not all written: %s" % out[-300:])

    def check(self):
        names = list(self.values)
        for i in range(0, len(names), 100):
            p = self.cluster.ctl("-o", "json", "--timeout", "15s", "mget", *names[i:i + 100])
            read = {r["key"]: r["value"] for r in json.loads(p.stdout)["results"]}
            lost = [k for k in names[i:i + 100] if read.get(k) != self.values[k]]
            check(not lost, "%d acknowledged values are lost or changed: %s is %.60r" % (
                len(lost), lost[0] if lost else "", read.get(lost[0]) if lost else ""))


class Story:
    """Data and load around what a test does."""

    def __init__(self, c, **kw):
        self.cluster = c
        self.data = Data(c)
        self.load = Load(c, timeout=4000, rate=1000, gaps=RANGES, **kw)
        self.load.warm_up()
        self.notes = []

    def end(self, gap_ms, retries=None, killed=False):
        """No operation may have failed; no slot range was without a write for longer than gap_ms,
        no operation was sent again more than `retries` times. With `killed` the answers of a killed
        node may be missing: the outcome of writes unknown."""
        c, load = self.cluster, self.load
        settled(c)
        load.finish()
        r = load.result
        check(r["errors"] == 0 and (killed or r["unknown"] == 0), "operations failed: %s; %s" % (
            r, load.failures()[:3]))
        self.data.check()
        note = "; ".join(self.notes + [load.note(), "longest span without a write in a slot range "
                                       "%d ms, %d operations sent again, at most %d times" % (
                                           r["max_write_gap_ms"], r["retried"], r["retries_max"])])
        check(r["max_write_gap_ms"] <= gap_ms, "a slot range stood still: %s" % note)
        check(retries is None or r["retries_max"] <= retries, "too many retries: %s" % note)
        return note


# ---- what a settled cluster is ----

def unsettled(c):
    """What is wrong with it; "" if nothing."""
    p = c.ctl("-o", "json", "nodes", ok=False), c.ctl("-o", "json", "groups", ok=False)
    if any(x.returncode != 0 for x in p):
        return "no answer: %s" % (p[0].stderr + p[1].stderr)
    name = {n["id"]: n["name"] for n in json.loads(p[0].stdout)["nodes"] if n["state"] == "up"}
    all_groups = json.loads(p[1].stdout)["groups"]
    next_slot = 0
    for g in sorted(all_groups, key=lambda g: g["first_slot"]):
        if g["first_slot"] != next_slot:
            return "slot %d belongs to nobody: %s" % (next_slot, g)
        next_slot = g["last_slot"] + 1
        match = {r["node"]: r["match"] for r in g["replicas"]}
        if len(match) != 3 or any(r["role"] != "voter" for r in g["replicas"]):
            return "not three voters: %s" % g
        if any(n not in name for n in match) or g["leader"] not in match:
            return "a replica on a node that is not up, or no leader: %s" % g
        # Under load the others are a few entries behind the leader.
        if min(match.values()) + 2000 < match[g["leader"]]:
            return "a replica is behind: %s" % g
    if next_slot != 16384:
        return "slot %d belongs to nobody" % next_slot
    under_way = ctl_json(c, "operator", "list")["operators"]
    if under_way:
        return "under way: %s" % under_way
    for node in c.shardds():
        if c.noted_pid(node) in c.ended:
            continue
        held = replica_directories(c, node)
        want = sorted(g["id"] for g in all_groups
                      if any(name[r["node"]] == node for r in g["replicas"]))
        if held != want:
            return "%s holds the groups %s, it should hold %s" % (node, held, want)
    return ""


def replica_directories(c, node):
    """What there is, whole or left over; the list of tombstones is to stay."""
    return sorted(name for name in os.listdir(os.path.join(c.dir, node, "groups"))
                  if not name.startswith("tombstones"))


def settled(c, seconds=40):
    wait_until(lambda: "settled: " + unsettled(c), lambda: unsettled(c) == "", seconds)


# ---- placementd's leader ----

def placement_leader(c):
    members = ctl_json(c, "cluster", "members")["members"]
    return next(("p" + m["id"] for m in members if m["leader"]), None)


def kill_placement_leader(c):
    """kill -9; started again once another one leads. Returns their names."""
    old = wait_until("placementd has a leader", lambda: placement_leader(c))
    c.kill(old)
    new = wait_until("another leader than %s" % old, lambda: other_leader(c, old))
    c.start(old)
    return "placementd's leader %s killed, %s took over" % (old, new)


def other_leader(c, old):
    p = c.ctl("-o", "json", "--timeout", "1s", "cluster", "members", ok=False)
    led = [m["id"] for m in json.loads(p.stdout)["members"] if m["leader"]] if p.stdout else []
    return "p" + led[0] if led and "p" + led[0] != old else None


def operators(c):
    p = c.ctl("-o", "json", "--timeout", "1s", "operator", "list", ok=False)
    return json.loads(p.stdout)["operators"] if p.returncode == 0 else None


class Command:
    """A kvctl command in the background; it must not mind that placementd's leader changes."""

    def __init__(self, c, *args):
        self.args = args
        self.process = subprocess.Popen([program("kvctl"), "--url", c.url, *args],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        c.children.append(self.process)

    def finish(self, seconds=60):
        try:
            out, err = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            check(False, "kvctl %s does not end: %s" % (
                " ".join(self.args), "".join(self.process.communicate())[-2000:]))
        check(self.process.returncode == 0, "kvctl %s: exit %d\n%s%s" % (
            " ".join(self.args), self.process.returncode, out, err[-2000:]))
        return out


# ---- the tests ----

def grow_under_load(c):
    """3 -> 5 nodes, balanced by itself, placementd's leader killed while replicas move."""
    s = Story(c)
    grow(c, 5)
    wait_until("a move is under way", lambda: any(o["kind"] == "move" for o in operators(c) or []))
    s.notes.append(kill_placement_leader(c))
    check(operators(c) != [], "all was over before the leader died: the test proves nothing")
    wait_until(lambda: "replicas on all nodes: %s" % held(c), lambda: min(held(c).values()) >= 3, 60)
    s.notes.append("replicas %s" % sorted(held(c).values()))
    return s.end(gap_ms=1000, retries=3)


def held(c):
    return {n["name"]: n["replicas"] for n in nodes(c).values()}


def drain_under_load(c):
    """A node drained, placementd's leader killed meanwhile."""
    s = Story(c)
    drain = Command(c, "--yes", "node", "drain", "n2")
    wait_until("a move is under way", lambda: operators(c))
    s.notes.append(kill_placement_leader(c))
    check(any("n2" in on for on in groups(c).values()), "drained before the leader died")
    drain.finish()
    check(all("n2" not in on for on in groups(c).values()), "replicas are left on n2")
    c.ctl("--yes", "node", "undrain", "n2")
    return s.end(gap_ms=1000, retries=3)


def node_lost(c):
    """kill -9 of the node that leads most groups, for good: its replicas are replaced, while
    placementd's leader is killed too. Then it comes back: nobody wants its replicas any more."""
    s = Story(c)
    victim = c.leader_node()
    t0 = time.monotonic()
    c.kill(victim)
    wait_until("a replica is replaced", lambda: operators(c))
    began = time.monotonic() - t0
    s.notes.append("replacing began after %.1f s" % began)
    s.notes.append(kill_placement_leader(c))
    wait_until(lambda: "no replica on %s: %s" % (victim, groups(c)),
               lambda: not any(victim in on for on in groups(c).values()), 60)
    settled(c)
    s.notes.append("three replicas again after %.1f s" % (time.monotonic() - t0))
    check(replica_directories(c, victim), "%s had no replicas" % victim)
    c.start(victim)
    return s.end(gap_ms=4000, killed=True)


def wiped_node_returns(c):
    """A node whose disk was lost returns under its old name: it is a new node, gets replicas of its
    own under new ids, and every group has three again."""
    s = Story(c)
    old = {r["id"] for g in ctl_json(c, "groups")["groups"] for r in g["replicas"]}
    c.kill("n3")
    shutil.rmtree(os.path.join(c.dir, "n3"))
    c.start("n3")
    wait_until("replicas are replaced", lambda: operators(c))
    s.notes.append(kill_placement_leader(c))
    settled(c)
    on = groups(c)
    check(all(names == ["n1", "n2", "n3"] for names in on.values()), "replicas: %s" % on)
    fresh = [r["id"] for g in ctl_json(c, "groups")["groups"] for r in g["replicas"]
             if r["id"] not in old]
    check(len(fresh) == len(on), "not one new replica id a group: %s" % fresh)
    c.kill("n1")  # the new replicas are needed for every majority now
    s.data.check()
    c.start("n1")
    return s.end(gap_ms=4000, killed=True)


def split_and_merge_under_load(c):
    """Every group split in the middle, then merged again, placementd's leader killed in each."""
    s = Story(c)
    calm(c)
    before = {g["id"]: (g["first_slot"], g["last_slot"]) for g in ctl_json(c, "groups")["groups"]}
    fault = 1
    for i, g in enumerate(before):
        split = Command(c, "group", "split", g)
        if i == fault:
            time.sleep(0.02)
            s.notes.append("split: " + kill_placement_leader(c))
        split.finish()
    by_slot = sorted(ctl_json(c, "groups")["groups"], key=lambda g: g["first_slot"])
    check(len(by_slot) == 2 * len(before), "not all split: %s" % by_slot)
    settled(c)
    for i in range(0, len(by_slot), 2):
        into, child = by_slot[i], by_slot[i + 1]
        merge = Command(c, "--yes", "group", "merge", child["id"], into["id"])
        if i == fault * 2:
            time.sleep(0.05)
            s.notes.append("merge: " + kill_placement_leader(c))
        merge.finish()
    after = {g["id"]: (g["first_slot"], g["last_slot"]) for g in ctl_json(c, "groups")["groups"]}
    check(after == before, "merged into %s, before it was %s" % (after, before))
    return s.end(gap_ms=1000, retries=3)


def placement_away(c):
    """All of placementd down for a while under load: no operation fails, not even late ones of
    clients that come meanwhile, and afterwards the cluster goes on placing."""
    s = Story(c, seconds=AWAY_SECONDS + 60)
    c.kill("p1", "p2", "p3")
    t0 = time.monotonic_ns()
    time.sleep(AWAY_SECONDS / 2)
    # A client that starts now has the map from the nodes.
    url = "kv://" + ",".join("127.0.0.1:%d" % (c.base + i) for i in (1, 2, 3))
    for i in range(5):
        p = run_program("kvctl", "--url", url, "get", "data%d" % i)
        check(p.returncode == 0, "without placementd: exit %d %s" % (p.returncode, p.stderr))
    time.sleep(AWAY_SECONDS / 2)
    t1 = time.monotonic_ns()
    c.start()
    calm(c)
    c.ctl("group", "split", "1")
    note = s.end(gap_ms=1000, retries=3)
    during = sum(t0 < e["t0"] and e["t1"] < t1 for e in s.load.acked())
    check(during > 200 * AWAY_SECONDS, "only %d writes without placementd" % during)
    return "%.0f s; %s" % (AWAY_SECONDS, note)


def restarts_under_load(c):
    """`kvctl cluster rolling-restart` with placementd's leader killed in the middle: no operation
    fails."""
    s = Story(c)
    old = {n: c.pid(n) for n in c.shardds()}
    c.ended.update(old.values())
    rolling = Command(c, "cluster", "rolling-restart", "--dir", c.dir)
    wait_until("the first node is restarted", lambda: c.noted_pid("n1") not in (0, old["n1"]))
    s.notes.append(kill_placement_leader(c))
    rolling.finish(90)
    c.note_processes()
    check(all(c.pid(n) != pid for n, pid in old.items()), "not all restarted")
    return s.end(gap_ms=1500)


TESTS = [
    (grow_under_load, {"groups": 8, "sets": (SLOW_MOVES,)}),
    (drain_under_load, {"nodes": 4, "groups": 6, "sets": (SLOW_MOVES,)}),
    (node_lost, {"nodes": 4, "groups": 6, "sets": (SLOW_MOVES, *SOON_DOWN)}),
    (wiped_node_returns, {"sets": (SLOW_MOVES, *SOON_DOWN)}),
    (split_and_merge_under_load, {}),
    (placement_away, {}),
    (restarts_under_load, {}),
]
