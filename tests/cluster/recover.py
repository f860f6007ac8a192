"""What is left when more is lost than may be: a majority of nodes, all of placementd."""
import json
import os
import shutil

from operate import ctl_json, groups, refused
from placement import SOON_DOWN, Data, Story, replica_directories, settled
from playground import alive, check, wait_until


def caught_up(c):
    """Every replica has all that its leader has."""
    for g in ctl_json(c, "groups")["groups"]:
        match = {r["match"] for r in g["replicas"]}
        if len(match) != 1 or g["leader"] is None:
            return False
    return True


def wipe(c, *names):
    for name in names:
        shutil.rmtree(os.path.join(c.dir, name))


def plan(c, *args, code=0):
    p = c.ctl("cluster", "recover", "--plan", *args, ok=False)
    check(p.returncode == code and "Nothing has changed." in p.stdout, "exit %d: %s%s" % (
        p.returncode, p.stdout, p.stderr))
    return p.stdout


def nodes_lost(c):
    """Two of three nodes gone for good: each group goes on with the replica that is left. All that it
    had is there, and once there are nodes again each group has three replicas. A lost node that comes
    back with its old data is refused."""
    data = Data(c)
    wait_until("all replicas are even", lambda: caught_up(c))
    refused(c, 5, "the map is there", "--yes", "cluster", "recover")
    refused(c, 1, "no node 'n7'", "--yes", "cluster", "recover", "--lost", "n7")
    refused(c, 5, "is not lost: it was heard", "--yes", "cluster", "recover", "--lost", "n2,n3")
    c.kill("n2", "n3")
    wipe(c, "n2")
    wait_until("both are down", lambda: sum(
        n["state"] == "down" for n in ctl_json(c, "nodes")["nodes"]) == 2, 30)
    refused(c, 5, "start that node first", "--yes", "cluster", "recover", "--lost", "n3")
    said = plan(c, "--lost", "n2,n3")
    for g in groups(c):
        check("g%s (slots" % g in said, "nothing of g%s: %s" % (g, said))
    check("replica on n1 alone" in said and "%d groups are forced" % c.groups in said, said)
    check(c.ctl("--timeout", "1s", "get", "data0", ok=False).returncode != 0, "not lost at all")
    c.ctl("--yes", "cluster", "recover", "--lost", "n2,n3")
    wait_until("all groups run on n1 alone", lambda: all(
        on == ["n1"] for on in groups(c).values()), 20)
    data.check()
    c.ctl("--timeout", "10s", "put", "after", "the loss")
    # It has all its old data, and its old peers believe it.
    c.start("n3", ok=False)
    c.note_processes()
    pid = c.noted_pid("n3")
    c.ended.add(pid)
    wait_until("n3 is refused", lambda: not alive(pid))
    check("given up" in c.log("n3"), c.tail("n3"))
    c.expected.append("was given up")
    wipe(c, "n3")
    c.start()
    settled(c, 60)
    data.check()
    check(c.ctl("get", "after").stdout.strip() == "the loss", "a write after it is lost")
    c.kill("n1")
    data.check()  # the others have all of it
    c.start("n1")
    return ""


def placement_wiped(c):
    """Lost whole: a new placementd, made with empty directories, takes over the cluster when it is
    told to, and not before; its map comes from what the nodes have. Clients work all the while; what
    was split and moved stays so."""
    s = Story(c)
    c.ctl("group", "split", "1")
    c.ctl("--yes", "node", "drain", "n4")
    settled(c)
    before = ctl_json(c, "groups")["groups"]
    cluster = c.status()["cluster"]
    c.kill("p1", "p2", "p3")
    wipe(c, "p1", "p2", "p3")
    c.start("p1", "p2", "p3")
    wait_until("nodes knock", lambda: "has knocked" in c.ctl(
        "cluster", "recover", "--plan", ok=False).stdout)
    check(c.status()["cluster"] != cluster, "it took the cluster over without being told")
    said = plan(c)
    check("cluster %s" % cluster in said, said)
    check(not ctl_json(c, "groups")["groups"], "a map without being told")
    # One node is restarted meanwhile: it ends, for it is of another cluster.
    c.ended.add(c.pid("n4"))
    c.kill("n4")
    c.start("n4", ok=False)
    pid = c.noted_pid("n4")
    c.ended.add(pid)
    wait_until("n4 has ended", lambda: not alive(pid))
    c.expected.append("belongs to another cluster")
    out = c.ctl("--yes", "cluster", "recover").stdout
    check("Every slot belongs to one group" in out, out)
    c.start("n4")
    after = ctl_json(c, "groups")["groups"]
    check([shape(g) for g in after] == [shape(g) for g in before], "%s\n%s" % (before, after))
    check(c.status()["cluster"] == cluster, "another cluster")
    settled(c)
    c.ctl("group", "split", "2")
    c.ctl("--yes", "node", "drain", "n2")
    check(all("n2" not in on for on in groups(c).values()), "replicas are left on n2")
    fresh = {g["id"] for g in ctl_json(c, "groups")["groups"]} - {g["id"] for g in before}
    check(min(int(g) for g in fresh) > 1 << 20, "ids may be given out twice: %s" % fresh)
    return s.end(gap_ms=1000, retries=8)


def shape(g):
    return g["id"], g["first_slot"], g["last_slot"], sorted(
        (r["id"], r["node"], r["role"]) for r in g["replicas"])


def placement_and_node_lost(c):
    """Lost whole, and a node with it: the map says what is missing and is not made, until the node is
    given up by its number. Its replicas are replaced."""
    data = Data(c)
    number = next(n["id"] for n in ctl_json(c, "nodes")["nodes"] if n["name"] == "n4")
    check(replica_directories(c, "n4"), "n4 has no replicas: the test proves nothing")
    c.kill("p1", "p2", "p3", "n4")
    wipe(c, "p1", "p2", "p3", "n4")
    c.start("p1", "p2", "p3")
    wait_until("nodes knock", lambda: "has knocked" in c.ctl(
        "cluster", "recover", "--plan", ok=False).stdout)
    p = c.ctl("--yes", "cluster", "recover", ok=False)
    check(p.returncode == 5 and "give it up with --lost %s" % number in p.stdout,
          "exit %d: %s%s" % (p.returncode, p.stdout, p.stderr))
    check("cannot be made yet" in plan(c, code=1), "a plan")
    refused(c, 5, "being recovered", "cluster", "init")
    c.ctl("--yes", "cluster", "recover", "--lost", number)
    c.start()
    settled(c, 60)
    data.check()
    return ""


def placement_from_export(c):
    """An export brings the map back too, with a split that it does not know of."""
    s = Story(c)
    path = os.path.join(c.scratch, "map.json")
    c.ctl("cluster", "map", "export", path)
    with open(path) as f:
        check(json.load(f)["groups"] == c.groups, "export")
    c.kill("p1", "p2", "p3")
    wipe(c, "p1", "p2", "p3")
    c.start("p1", "p2", "p3")
    wait_until("placementd leads", lambda: c.ctl("--dry-run", "cluster", "map", "import", path,
                                                 ok=False).returncode == 0)
    c.ctl("--yes", "cluster", "map", "import", path)
    settled(c)
    wait_until("a split", lambda: c.ctl("group", "split", "1", ok=False).returncode == 0)
    return s.end(gap_ms=1000, retries=3)


TESTS = [
    (nodes_lost, {"sets": SOON_DOWN}),
    (placement_wiped, {"nodes": 4}),
    (placement_and_node_lost, {"nodes": 4, "sets": SOON_DOWN}),
    (placement_from_export, {}),
]
