"""placementd's own members: more and fewer of them, wiped ones, all of it while clients work."""
import json
import os
import shutil
import subprocess
import threading

from operate import refused
from placement import Story, kill_placement_leader, placement_leader, settled
from playground import alive, check, program, wait_until


def members(c):
    """{id: role}; {} while nobody leads."""
    p = c.ctl("-o", "json", "--timeout", "1s", "cluster", "members", ok=False)
    return {m["id"]: m["role"] for m in json.loads(p.stdout)["members"]} if p.stdout else {}


def wait_members(c, ids, seconds=20):
    """All of them voters, and nobody else."""
    want = {str(i): "voter" for i in ids}
    wait_until(lambda: "members %s: %s" % (want, members(c)), lambda: members(c) == want, seconds)


class Growing:
    """`playground start --placements` in the background: it waits for the members to vote."""

    def __init__(self, c, count):
        c.placements = count
        self.cluster, self.failure = c, None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        try:
            self.cluster.start()
        except Exception as e:  # told by finish()
            self.failure = e

    def finish(self):
        self.thread.join(60)
        check(not self.thread.is_alive() and not self.failure, "growing: %s" % self.failure)


def remove(c, name):
    """It is told, and ends by itself; it does not start again."""
    pid = c.pid(name)
    c.ended.add(pid)
    c.ctl("--yes", "cluster", "member", "remove", name[1:])
    wait_until("%s has ended\n%s" % (name, c.tail(name)), lambda: not alive(pid), 20)
    check("this member was removed" in c.log(name), "%s: %s" % (name, c.tail(name)))


def old_configuration(c, name):
    """Started with the addresses of members that are gone, a node knows from before where to look."""
    with open("/proc/%d/cmdline" % c.pid(name)) as f:
        args = f.read().split("\0")[:-1]
    at = next(i for i, arg in enumerate(args) if arg.startswith("cluster.placement="))
    args[at] = "cluster.placement=127.0.0.1:%d" % (c.base + 101)  # p1: removed
    c.kill(name)
    with open(os.path.join(c.dir, "log", "old-configuration"), "w") as log:
        node = subprocess.Popen(args, executable=program("shardd"), stdout=log, stderr=log)
    try:
        wait_until("%s is up with an old configuration" % name, lambda: any(
            n["name"] == name and n["state"] == "up"
            for n in json.loads(c.ctl("-o", "json", "nodes").stdout)["nodes"]))
        c.wait_healthy()
    finally:
        node.terminate()
        node.wait()
    c.start(name)


def members_grow_and_shrink(c):
    """3 -> 5 members under load with the leader killed in the middle, then back to 3: those that it
    began with, the leader among them, are the ones that leave. The last founder is replaced too: nodes
    find placementd by what it said of its members. All of it survives a restart of everything."""
    s = Story(c)
    refused(c, 5, "two survive no failure", "--yes", "cluster", "member", "remove", "1")
    refused(c, 5, "there already", "cluster", "member", "add", "2", "127.0.0.1:9")
    growing = Growing(c, 5)
    wait_until("a member is added", lambda: len(members(c)) > 3)
    s.notes.append(kill_placement_leader(c))
    growing.finish()
    wait_members(c, (1, 2, 3, 4, 5))
    first = placement_leader(c)
    others = [n for n in ("p1", "p2", "p3") if n != first]
    remove(c, first)
    remove(c, others[0])
    wait_members(c, (int(others[1][1:]), 4, 5))
    p = c.ctl("-o", "json", "playground", "status", "--dir", c.dir)
    states = {x["name"]: x["state"] for x in json.loads(p.stdout)["processes"]}
    check([states[n] for n in (first, others[0])] == ["removed"] * 2, "%s" % states)
    refused(c, 5, "used before", "cluster", "member", "add", first[1:], "127.0.0.1:9")
    # Any one of the three may be lost now.
    s.notes.append(kill_placement_leader(c))
    # Nobody of those that the nodes were told of is left: they know the others by now.
    c.placements = 6
    c.start()
    remove(c, others[1])
    wait_members(c, (4, 5, 6))
    s.notes.append(kill_placement_leader(c))
    settled(c)
    wait_until("a split", lambda: c.ctl("group", "split", "1", ok=False).returncode == 0)
    note = s.end(gap_ms=1000, retries=3)
    old_configuration(c, "n1")
    c.playground("stop")
    c.ended.update(c.seen)
    c.start()
    c.wait_healthy()
    wait_members(c, (4, 5, 6))
    s.data.check()
    return note


def member_wiped(c):
    """A member that lost its disk is shut out under its old id; a new one takes its place."""
    s = Story(c)
    victim = placement_leader(c)
    c.kill(victim)
    shutil.rmtree(os.path.join(c.dir, victim))
    c.start(victim)
    c.note_processes()
    pid = c.noted_pid(victim)
    c.ended.add(pid)
    wait_until("it is told, and ends", lambda: not alive(pid))
    check("was wiped" in c.log(victim), "%s: %s" % (victim, c.tail(victim)))
    old = victim[1:]
    c.placements = 4
    c.start()
    check(members(c).get("4") == "standby", "members: %s" % members(c))
    c.ctl("--yes", "cluster", "member", "remove", old)
    wait_members(c, [i for i in (1, 2, 3, 4) if str(i) != old])
    s.notes.append(kill_placement_leader(c))
    return s.end(gap_ms=1000, retries=3)


TESTS = [
    (members_grow_and_shrink, {}),
    (member_wiped, {}),
]
