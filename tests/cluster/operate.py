"""What operators do with kvctl, on a cluster under load: no operation fails, refusals say why, plans
are what happens."""
import json
import os
import pty
import select
import signal
import subprocess
import time

from load import Load
from playground import alive, check, program, wait_until


def ctl_json(c, *args, code=0):
    p = c.ctl("-o", "json", *args, ok=False)
    check(p.returncode == code, "kvctl %s: exit %d\n%s%s" % (" ".join(args), p.returncode, p.stdout,
                                                             p.stderr))
    answer = json.loads(p.stdout if code in (0, 1) and p.stdout else p.stderr)
    check(answer["schema"] == 1, "no schema: %s" % answer)
    return answer


def refused(c, code, text, *args):
    """Exit code and reason, on stderr alone."""
    p = c.ctl(*args, ok=False)
    check(p.returncode == code and text in p.stderr and not p.stdout,
          "kvctl %s: exit %d, not %d with \"%s\":\n%s%s" % (" ".join(args), p.returncode, code, text,
                                                           p.stdout, p.stderr))


def nodes(c):
    return {n["name"]: n for n in ctl_json(c, "nodes")["nodes"]}


def groups(c):
    """{id: names of the nodes that hold it}"""
    name = {n["id"]: n["name"] for n in ctl_json(c, "nodes")["nodes"]}
    return {g["id"]: sorted(name[r["node"]] for r in g["replicas"])
            for g in ctl_json(c, "groups")["groups"]}


def leader(c, group):
    return c.leaders()[group][0]


def grow(c, count):
    """More nodes; returns once they have told how large their disks are."""
    c.nodes = count
    c.start()
    wait_until("%d nodes with disks" % count,
               lambda: sum(n["disk_size"] > 0 and n["state"] == "up" for n in nodes(c).values()) ==
               count)


def no_failures(load):
    check(load.result["errors"] == 0 and load.result["unknown"] == 0,
          "operations failed: %s" % load.failures()[:3])
    return load.note()


def calm(c):
    """No balancing any more, and none under way: a group with an operator refuses another."""
    c.ctl("rebalance", "pause")
    wait_until("nothing under way", lambda: not ctl_json(c, "operator", "list")["operators"])


def grow_and_drain(c):
    """3 -> 5 nodes, a plan shown, refused when it is stale, applied; a node drained and removed."""
    load = Load(c)
    load.warm_up()
    calm(c)
    check(ctl_json(c, "rebalance", "status")["paused"] is True, "balancing is not paused")
    check(not ctl_json(c, "rebalance", "plan")["moves"] or
          all(m["kind"] == "transfer-leader" for m in ctl_json(c, "rebalance", "plan")["moves"]),
          "moves are planned between three nodes of three replicas")
    grow(c, 5)
    stale = ctl_json(c, "rebalance", "plan")
    check(any(m["kind"] == "move" for m in stale["moves"]), "no moves to new nodes: %s" % stale)
    before = groups(c)
    time.sleep(2)
    check(groups(c) == before, "a plan that was only shown has changed something")
    c.ctl("group", "split", "g1")
    refused(c, 5, "the topology has changed", "rebalance", "apply", stale["plan"])
    plan = c.ctl("rebalance", "plan").stdout
    check(plan.startswith("Plan ") and "never below 3 voters" in plan and
          "Nothing has changed. Run: kvctl rebalance apply " in plan, "plan:\n%s" % plan)
    for _ in range(4):  # one step of a group at a time: what follows is planned again
        plan = ctl_json(c, "rebalance", "plan")
        if not any(m["kind"] == "move" for m in plan["moves"]):
            break
        c.ctl("rebalance", "apply", plan["plan"])
    held = [n["replicas"] for n in nodes(c).values()]
    check(min(held) >= 2, "not spread: replicas of the nodes %s" % held)
    drain_and_remove(c, "n2")
    load.finish()
    return no_failures(load)


def drain_and_remove(c, name):
    refused(c, 5, "drain it first", "node", "remove", name, "--yes")
    plan = ctl_json(c, "node", "drain", name, "--plan")
    check(plan["lowest_voters"] >= 3 and plan["moves"], "plan of the drain: %s" % plan)
    refused(c, 5, "--yes", "node", "drain", name)
    check(nodes(c)[name]["state"] == "up", "it drains although it was refused")
    out = c.ctl("--yes", "node", "drain", name)
    check("is empty" in out.stdout, out.stdout)
    check("100%" in out.stderr, "no progress: %s" % out.stderr)
    check(all(name not in on for on in groups(c).values()), "replicas are left on %s" % name)
    c.ctl("--yes", "node", "remove", name)
    check(nodes(c)[name]["state"] == "removed", "it is not removed")
    c.stop(name)
    check(c.ctl("status").stdout.startswith("ok"), "a removed node counts as lost")


def group_commands(c):
    """Transfer, split, merge, move, more and less replicas, by hand, under load."""
    grow(c, 4)
    calm(c)
    load = Load(c)
    load.warm_up()
    on = groups(c)
    to = next(n for n in on["2"] if n != leader(c, "2"))
    c.ctl("group", "transfer-leader", "g2", to)
    wait_until("%s leads g2" % to, lambda: leader(c, "2") == to, 3)
    refused(c, 5, "leads group 2 already", "group", "transfer-leader", "g2", to)
    done = ctl_json(c, "group", "move-replica", "g02", on["2"][0],
                    next(n for n in c.shardds() if n not in on["2"]))
    check(done["done"] and done["operators"][0]["kind"] == "move", "move: %s" % done)
    check(on["2"][0] not in groups(c)["2"] and len(groups(c)["2"]) == 3, "it has not moved")
    split_and_merge(c)
    refused(c, 1, "there is no group g77; there are", "group", "split", "g77")
    refused(c, 1, "there is no node 'n9'; there are: n1, n2, n3, n4", "group", "move-replica", "g1",
            "n1", "n9")
    refused(c, 2, "wants", "group", "merge", "g1")
    ended = ctl_json(c, "operator", "list")["finished"]
    check({"move", "split", "merge", "transfer-leader"} <= {e["kind"] for e in ended},
          "not told afterwards: %s" % ended)
    load.finish()
    return no_failures(load)


def split_and_merge(c):
    before = ctl_json(c, "groups")["groups"]
    g3 = next(g for g in before if g["id"] == "3")
    cut = g3["first_slot"] + 100
    shown = ctl_json(c, "--dry-run", "group", "split", "3", "--at", str(cut))
    check(shown["moves"][0]["slot"] == cut, "dry run: %s" % shown)
    check(len(groups(c)) == len(before), "a dry run has split")
    c.ctl("group", "split", "3", "--at", str(cut))
    after = ctl_json(c, "groups")["groups"]
    child = next(g for g in after if g["first_slot"] == cut)
    check(child["last_slot"] == g3["last_slot"] and len(after) == len(before) + 1,
          "split: %s" % after)
    refused(c, 5, "--yes", "group", "merge", "g" + child["id"], "g3")
    c.ctl("--yes", "group", "merge", "g" + child["id"], "g3")
    merged = next(g for g in ctl_json(c, "groups")["groups"] if g["id"] == "3")
    check((merged["first_slot"], merged["last_slot"]) == (g3["first_slot"], g3["last_slot"]),
          "merged: %s" % merged)
    # Two that do not sit on the same nodes: their replicas are moved together first.
    c.ctl("--yes", "group", "merge", "g2", "g1")
    check("2" not in groups(c), "g2 is still there")


def cancel_and_detach(c):
    """An operator that cannot get on says what it waits for, is left with ^C, taken up again and
    cancelled."""
    grow(c, 4)
    calm(c)
    before = groups(c)
    source = before["1"][0]
    to = next(n for n in c.shardds() if n not in before["1"])
    c.pause(to)
    code, said = interrupted(c, "group", "move-replica", "g1", source, to)
    check(code == 4 and "kvctl rebalance watch" in said, "^C: exit %d %s" % (code, said))
    check("%" in said, "no progress on a terminal: %r" % said)
    ops = ctl_json(c, "operator", "list")["operators"]
    check(len(ops) == 1 and ops[0]["kind"] == "move" and to in ops[0]["waits_for"], "list: %s" % ops)
    why = c.ctl("why", ops[0]["id"]).stdout
    check(to in why and "waits for" in why, "why: %s" % why)
    check("operator %s" % ops[0]["id"] in c.ctl("why", "g1").stdout, "why of the group")
    refused(c, 5, "operator %s" % ops[0]["id"], "group", "split", "g1")
    check(ctl_json(c, "operator", "cancel", ops[0]["id"])["cancelled"] == 1, "not cancelled")
    c.resume()
    wait_until("nothing under way", lambda: not ctl_json(c, "operator", "list")["operators"])
    check(groups(c) == before, "cancelled, but moved: %s" % groups(c))
    ended = ctl_json(c, "operator", "list")["finished"][0]
    check(ended["outcome"] == "cancelled", "outcome: %s" % ended)
    c.wait_healthy()
    return ""


def interrupted(c, *args, seconds=10):
    """kvctl on a terminal of its own, ^C as soon as it shows something: exit code, what it said."""
    master, slave = pty.openpty()
    p = subprocess.Popen([program("kvctl"), "--url", c.url, *args], stdin=slave, stdout=slave,
                         stderr=slave)
    os.close(slave)
    said, sent, end = "", False, time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([master], [], [], 0.1)[0]:
            try:
                data = os.read(master, 65536)
            except OSError:
                break  # its end is closed
            if not data:
                break
            said += data.decode(errors="replace")
        if "waits for" in said and not sent:
            p.send_signal(signal.SIGINT)
            sent = True
    os.close(master)
    if p.poll() is None and alive(p.pid):
        try:
            p.wait(timeout=2)
        except subprocess.TimeoutExpired:
            p.kill()
    return p.wait(), said


def rolling_restart(c):
    """Every node once, one after the other, under load, with no failed operation."""
    load = Load(c)
    load.warm_up()
    old = {n: c.pid(n) for n in c.shardds()}
    for name in old:
        c.ended.add(old[name])
    shown = c.ctl("cluster", "rolling-restart", "--dir", c.dir, "--plan").stdout
    check(len(shown.splitlines()) == c.nodes and c.pid("n1") == old["n1"], "plan: %s" % shown)
    refused(c, 1, "no playground", "cluster", "rolling-restart", "--dir", c.scratch)
    done = ctl_json(c, "cluster", "rolling-restart", "--dir", c.dir)
    c.note_processes()
    check([n["name"] for n in done["nodes"]] == c.shardds(), "restarted: %s" % done)
    check(all(c.pid(n) != old[n] for n in old), "not restarted")
    check(all(n["maintenance_ms"] == 0 for n in nodes(c).values()), "left in maintenance")
    load.finish()
    return no_failures(load)


def node_down(c):
    """A node that is away: the sentence of the status, what is refused meanwhile, maintenance."""
    c.ctl("node", "maintenance", "n3", "--for", "10m")
    c.kill("n3")
    wait_until("n3 is noticed", lambda: "n3" in c.ctl("status", ok=False).stdout.splitlines()[0], 30)
    p = c.ctl("status", ok=False)
    first = p.stdout.splitlines()[0]
    check(p.returncode == 1 and first.startswith("degraded: node n3 is suspect") and
          "run on 2 of 3 replicas" in first and "maintenance" in first, "status: %s" % first)
    refused(c, 5, "", "--yes", "node", "drain", "n1")
    refused(c, 5, "", "node", "drain", "n1", "--plan")
    why = c.ctl("why", "n3").stdout
    check("maintenance" in why and "not replaced" in why, "why: %s" % why)
    c.start("n3")
    c.wait_healthy()
    c.ctl("node", "maintenance", "n3", "--off")
    return ""


def map_backup(c):
    """The map out into a file; in again only where there is none."""
    path = os.path.join(c.scratch, "map.json")
    c.ctl("cluster", "map", "export", path)
    with open(path) as f:
        saved = json.load(f)
    check(saved["schema"] == 1 and saved["groups"] == c.groups, "export: %s" % saved)
    refused(c, 5, "groups already", "--yes", "cluster", "map", "import", path)
    with open(path, "w") as f:
        f.write(json.dumps(dict(saved, state=saved["state"][:100])))
    refused(c, 5, "groups already", "--yes", "cluster", "map", "import", path)
    with open(path, "w") as f:
        f.write("{}")
    refused(c, 2, "no export", "--yes", "cluster", "map", "import", path)
    return ""
