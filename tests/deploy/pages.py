"""The HTTP pages of both daemons, the metrics and the rules made of them."""
import json
import os
import re
import shutil

from common import (TOP, Daemon, check, directory, free_base, get, must, needed, placementd_args, run,
                    run_program, shardd_args)

RULES = os.path.join(TOP, "deploy/prometheus/shardkv.rules.yml")
state = {}


def cluster():
    """One placementd and one node, with a group and a few operations: (port of each's HTTP)."""
    if not state:
        base = free_base(1)
        p = Daemon("placementd", *placementd_args(base, os.path.join(directory(), "d")))
        n = Daemon("shardd", *shardd_args(base, os.path.join(directory(), "d")))
        p.wait("READY=1")
        n.wait("READY=1")
        url = "kv://127.0.0.1:%d" % (base + 101)
        for args in (("cluster", "init", "--groups", "2", "--replicas", "1"), ("put", "k", "v"),
                     ("get", "k")):
            r = run_program("kvctl", "--url", url, "--timeout", "10s", *args)
            check(r.returncode == 0, "kvctl %s: %s" % (args, r.stderr))
        state.update(placementd=base + 501, shardd=base + 401, url=url)
    return state


def endpoints():
    """/livez, /readyz, /metrics and /api/v1/status of both; nothing else, and only to read."""
    c = cluster()
    for name in ("placementd", "shardd"):
        port = c[name]
        for path in ("/livez", "/readyz"):
            status, kind, body = get(port, path)
            check(status == 200 and body == "ok\n" and kind.startswith("text/plain"),
                  "%s %s: %d %s" % (name, path, status, body))
        status, _, body = get(port, "/readyz?verbose")
        check(status == 200 and "[+]" in body, "%s: %s" % (name, body))
        status, kind, body = get(port, "/api/v1/status")
        check(status == 200 and kind == "application/json" and json.loads(body)["schema"] == 1,
              "%s: %d %s %s" % (name, status, kind, body[:200]))
        status, kind, body = get(port, "/metrics")
        check(status == 200 and kind.startswith("text/plain; version=0.0.4"), "%s %s" % (name, kind))
        status, _, body = get(port, "/nothing")
        check(status == 404 and "/metrics" in body, "%s: %d %s" % (name, status, body))
        check(get(port, "/livez", "POST")[0] == 405, "%s takes a POST" % name)
        check(get(port, "/metrics", "HEAD")[2] == "", "%s: HEAD with a body" % name)
    return ""


def samples_of(text):
    """{name: [value]}; families: {name: kind}"""
    samples, families = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            check(name not in families, "%s is there twice" % name)
            families[name] = kind
        elif line and not line.startswith("#"):
            m = re.match(r"^([a-z_]+)(\{.*\})? ([0-9.e+-]+)$", line)
            check(m, "not a sample: %s" % line)
            samples.setdefault(m.group(1), []).append(float(m.group(3)))
    return samples, families


def metrics():
    """promtool finds nothing; counters have counted what was done."""
    c = cluster()
    notes = []
    for name in ("placementd", "shardd"):
        text = get(c[name], "/metrics")[2]
        samples, families = samples_of(text)
        for family, kind in families.items():
            wanted = family + "_bucket" if kind == "histogram" else family
            check(wanted in samples, "%s: %s has no sample" % (name, family))
        if shutil.which("promtool"):
            p = run("promtool", "check", "metrics", input=text)
            check(p.returncode == 0 and not p.stderr and not p.stdout, "%s: %s%s" % (
                name, p.stdout, p.stderr))
        notes.append("%s %d families" % (name, len(families)))
        check(samples["process_start_time_seconds"][0] > 1.5e9, "start: %s" % samples[
            "process_start_time_seconds"])
        check(4 < samples["process_open_fds"][0] < samples["process_max_fds"][0], "files")
        if name == "shardd":
            check(sum(samples["shardkv_requests_total"]) >= 2, "requests are not counted")
            check(samples["shardkv_raft_leaders"] == [2], "leaders: %s" % samples[
                "shardkv_raft_leaders"])
        else:
            check(samples["shardkv_placement_leader"] == [1], "it does not lead")
            check(samples["shardkv_placement_groups_lost"] == [0], "groups are lost")
    return ", ".join(notes) + ("" if shutil.which("promtool") else "; there is no promtool here")


def rules():
    """Each metric that an alert asks for is on a page; promtool takes the rules."""
    c = cluster()
    names = set()
    for name in ("placementd", "shardd"):
        names |= set(samples_of(get(c[name], "/metrics")[2])[0])
    with open(RULES) as f:
        text = "\n".join(line for line in f if not re.match(r"\s*(summary|description):", line))
    used = set(re.findall(r"\b((?:shardkv|process)_[a-z_]+)", text))
    check(len(used) > 10 and used <= names, "on no page: %s" % sorted(used - names))
    needed("promtool")
    must("promtool", "check", "rules", RULES)
    return "%d metrics" % len(used)
