"""What applications and their operators use: conditions, times to live, numbers, many keys, read
levels, export and import, verify linear, and clients that other people wrote."""
import base64
import json
import os
import signal
import subprocess
import sys
import time

from load import Load, bench, lincheck
from operate import ctl_json, refused
from playground import Failed, Skipped, check, program, run_program, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))


def value_of(c, key):
    """What a get says, or None."""
    p = c.ctl("-o", "json", "get", key, ok=False)
    check(p.returncode in (0, 1), "get %s: exit %d %s" % (key, p.returncode, p.stderr))
    return json.loads(p.stdout) if p.returncode == 0 else None


def key_commands(c):
    """put, del, cas with conditions; incr; mget; what is refused and with which exit code."""
    first = ctl_json(c, "put", "k", "one", "--if-absent")["version"]
    refused(c, 1, "the key's version is " + first, "put", "k", "x", "--if-absent")
    second = ctl_json(c, "put", "k", "two", "--if-version", first)["version"]
    check(int(second) > int(first), "versions %s, %s" % (first, second))
    refused(c, 1, "the key's version is " + second, "cas", "k", first, "x")
    ctl_json(c, "cas", "k", second, "three")
    check(c.ctl("get", "k").stdout == "three\n", "cas")
    ctl_json(c, "cas", "new", "0", "made")
    refused(c, 1, "condition", "cas", "new", "0", "again")
    refused(c, 1, "condition", "del", "k", "--if-version", first)
    third = value_of(c, "k")["version"]
    deleted = ctl_json(c, "del", "k", "--if-version", third)["version"]
    refused(c, 1, "no such key", "get", "k")
    again = ctl_json(c, "put", "k", "back")["version"]
    check(int(again) > int(deleted) > int(third), "a version came back")

    check(c.ctl("incr", "n").stdout == "1\n" and c.ctl("incr", "n", "41").stdout == "42\n", "incr")
    check(ctl_json(c, "incr", "n", "-50")["number"] == -8, "incr by a negative number")
    refused(c, 1, "no whole number", "incr", "k")
    refused(c, 2, "'x' is no whole number", "incr", "n", "x")
    p = c.ctl("mget", "n", "k", "nothing", ok=False)
    check(p.returncode == 1 and p.stdout == "n\t-8\nk\tback\nnothing\t(no such key)\n" and
          not p.stderr, "mget: %s%s" % (p.stdout, p.stderr))
    many = ["many%d" % i for i in range(100)]
    c.ctl("shell", stdin="".join("put %s %s\n" % (k, k * 2) for k in many))
    got = ctl_json(c, "mget", *many)["results"]
    check([(r["key"], r["value"]) for r in got] == [(k, k * 2) for k in many], "mget of many")
    for args, text in ((("put", "k", "v", "--ttl", "0"), "time to live"),
                       (("put", "k", "v", "--if-version", "1", "--if-absent"), "exclude"),
                       (("get", "k", "--read", "newest"), "read level"),
                       (("touch", "k"), "time to live")):
        refused(c, 2, text, *args)
    return ""


def times_to_live(c):
    """--ttl, touch, persist, what is left, and that it is gone; the same after a restart of all."""
    c.ctl("put", "short", "v", "--ttl", "700ms")
    c.ctl("put", "long", "v", "--ttl", "1h")
    c.ctl("put", "kept", "v", "--ttl", "2s")
    c.ctl("put", "replaced", "v", "--ttl", "1s")
    c.ctl("put", "replaced", "w")
    c.ctl("incr", "number", "7", "--ttl", "1h")
    check(value_of(c, "short")["ttl_ms"] <= 700, "left of short: %s" % value_of(c, "short"))
    left = value_of(c, "long")["ttl_ms"]
    check(3500000 < left <= 3600000, "left of an hour: %s" % left)
    check(value_of(c, "replaced")["ttl_ms"] is None, "a put without --ttl kept the old one")
    c.ctl("persist", "kept")
    check(value_of(c, "kept")["ttl_ms"] is None, "persist")
    version = value_of(c, "long")["version"]
    c.ctl("touch", "long", "2h")
    touched = value_of(c, "long")
    check(touched["ttl_ms"] > 7000000 and touched["value"] == "v" and
          int(touched["version"]) > int(version), "touch: %s" % touched)
    wait_until("short has expired", lambda: value_of(c, "short") is None, 5)
    refused(c, 1, "no such key", "touch", "short", "1h")
    refused(c, 1, "no such key", "persist", "short")
    ctl_json(c, "put", "short", "again", "--if-absent")
    c.kill(*c.shardds())
    c.start()
    time.sleep(1.5)
    check(value_of(c, "long")["ttl_ms"] > 7000000, "after a restart: %s" % value_of(c, "long"))
    check(value_of(c, "number")["ttl_ms"] > 3500000, "a number's: %s" % value_of(c, "number"))
    check(c.ctl("incr", "number").stdout == "8\n" and value_of(c, "number")["ttl_ms"] > 3500000,
          "incr did not keep what is left")
    for key, value in (("kept", "v"), ("replaced", "w"), ("short", "again")):
        check(value_of(c, key)["value"] == value, "%s is gone" % key)
    return ""


def session_file(c):
    """What one kvctl has written the next one reads, at whatever replica."""
    path = os.path.join(c.dir, "session")
    for i in range(50):
        c.ctl("--session", path, "put", "kept", str(i))
        said = c.ctl("--session", path, "get", "kept", "--read", "session").stdout
        check(said == "%d\n" % i, "a session that was kept does not read its own write: %s" % said)
    with open(path) as f:
        token = f.read()
    for text in ("", "kv1.AAAA", token[:-8], token[:10] + "x" + token[11:], "x" * 1000000):
        with open(path, "w") as f:
            f.write(text)
        p = c.ctl("--session", path, "get", "kept", ok=False)
        check(p.returncode == 2 and "does not hold a session" in p.stderr and not p.stdout,
              "a damaged session: exit %d %s%s" % (p.returncode, p.stdout, p.stderr))
    for where in (c.dir, "/nowhere/session"):
        p = c.ctl("--session", where, "get", "kept", ok=False)
        check(p.returncode == 2 and "cannot be" in p.stderr, "a session in %s: %s" % (where, p.stderr))


def read_levels(c):
    """Each level answers; without a majority only those that do not need one."""
    c.ctl("put", "k", "v")
    for level in ("linearizable", "session", "bounded:1s", "any"):
        # The weaker ones may be behind, for a while.
        wait_until("get --read %s" % level,
                   lambda: c.ctl("get", "k", "--read", level, ok=False).stdout == "v\n", 5)
        wait_until("mget --read %s" % level, lambda: c.ctl(
            "mget", "k", "k2", "--read", level, ok=False).stdout.startswith("k\tv\n"), 5)
    lines = "put own 1\nget own --read session\nput own 2\nget own --read session\n"
    said = c.ctl("shell", stdin=lines).stdout.split()
    check(said[2] == "1" and said[5] == "2", "a session does not read its own writes: %s" % said)
    session_file(c)
    follower = bench(c, "--clients", "16", "--reads", "100", "--keys", "100", "--load", "--read",
                     "any", "--seconds", "1")["follower_reads"]
    check(follower > 0, "no read was answered by a follower")
    c.kill("n2", "n3")  # no majority: what needs none goes on
    check(c.ctl("get", "k", "--read", "any").stdout == "v\n", "get --read any without a majority")
    for level in ("linearizable", "bounded:200ms"):
        p = c.ctl("--timeout", "1s", "get", "k", "--read", level, ok=False)
        check(p.returncode in (3, 4, 6) and not p.stdout,
              "get --read %s without a majority: exit %d %s" % (level, p.returncode, p.stdout))
    c.start()
    return "%d reads by followers" % follower


# ---- export and import ----

def fill(c, keys=20000):
    bench(c, "--keys", str(keys), "--load", "--seconds", "0.1", "--clients", "64")
    c.ctl("put", "text", "grüße\u2028")
    c.ctl("put", "bytes", "-", stdin="\x00\x01binary")
    c.ctl("put", "passing", "v", "--ttl", "1h")
    return keys + 3


def lines_of(path):
    """{key: record}; twice the same key is an error."""
    records = {}
    with open(path) as f:
        for line in f:
            r = json.loads(line)
            key = r["key"] if "key" in r else base64.b64decode(r["key_base64"])
            check(key not in records, "%s is there twice" % key)
            records[key] = r
    return records


def export_import(c):
    """Both formats; a file that was cut goes on; what comes back is what was there."""
    count = fill(c)
    path, raw = os.path.join(c.scratch, "all.jsonl"), os.path.join(c.scratch, "all.msgpack")
    check(ctl_json(c, "export", path)["records"] == count, "export: %s" % path)
    refused(c, 5, "--resume goes on", "export", path)
    before = lines_of(path)
    check(len(before) == count and before["text"]["value"] == "grüße\u2028" and
          base64.b64decode(before["bytes"]["value_base64"]) == b"\x00\x01binary" and
          before["passing"]["expires_ms"] > time.time() * 1000, "records: %s" % before["text"])
    size = os.path.getsize(path)
    os.truncate(path, size // 3)
    more = c.ctl("export", path, "--resume").stdout
    check("of them now" in more and lines_of(path) == before, "resumed: %s" % more)
    check(ctl_json(c, "export", path, "--resume")["records"] == count, "resumed at the end")
    check(ctl_json(c, "export", raw)["records"] == count, "raw export")
    size = os.path.getsize(raw)
    os.truncate(raw, size // 2 + 7)
    c.ctl("export", raw, "--resume")
    check(os.path.getsize(raw) == size, "raw, resumed: %d bytes, not %d" % (os.path.getsize(raw),
                                                                            size))
    import_again(c, raw, path, before)
    return "%d keys" % count


def import_again(c, raw, path, before):
    """Every other key is deleted and every third changed: an import puts it right."""
    c.ctl("put", "text", "changed")
    for key in ("bytes", "passing"):
        c.ctl("del", key)
    done = ctl_json(c, "import", raw)
    check(done["written"] == len(before) and done["expired"] == 0, "import: %s" % done)
    kept = ctl_json(c, "import", path, "--if-absent")
    check(kept["kept"] == len(before) and kept["written"] == 0, "import --if-absent: %s" % kept)
    rest = ctl_json(c, "import", path, "--from", str(len(before) - 10))
    check(rest["written"] == 10, "import --from: %s" % rest)
    after = os.path.join(c.scratch, "after.jsonl")
    c.ctl("export", after)

    def plain(records):
        return {k: (r.get("value"), r.get("value_base64"), r.get("expires_ms", 0) // 60000)
                for k, r in records.items()}
    old, new = plain(before), plain(lines_of(after))
    bad = [k for k in old if k not in new or old[k][:2] != new[k][:2] or
           abs(old[k][2] - new[k][2]) > 1]
    check(not bad and len(old) == len(new), "not as before: %s" % bad[:5])
    p = c.ctl("import", "-", stdin='{"key":"a","value":"1"}\n{"key":"b"}\n', ok=False)
    check(p.returncode == 2 and "record 2" in p.stderr and "--from 1" in p.stderr and
          value_of(c, "a")["value"] == "1", "a bad record: %s" % p.stderr)
    p = c.ctl("import", "-", stdin='{"key":"a","value":"2","expires_ms":1000}\n')
    check("1 had expired" in p.stdout and value_of(c, "a")["value"] == "1", "expired: %s" % p.stdout)


def interrupt(c, *args):
    """Runs a command and presses ^C once it has begun; its exit code and stderr."""
    p = subprocess.Popen([program("kvctl"), "--url", c.url, *args], stderr=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
    c.children.append(p)
    time.sleep(0.15)
    p.send_signal(signal.SIGINT)
    try:
        _, err = p.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        raise Failed("%s does not end after ^C" % " ".join(args)) from None
    return p.returncode, err


def transfer_under_faults(c):
    """Export and import while a shard is split, a leader killed, and with ^C."""
    count = fill(c, 60000)
    path = os.path.join(c.scratch, "all.jsonl")
    for args in (("export", path), ("import", path)):
        c.ctl("export", path, "--replace")
        more = ("--replace",) if args[0] == "export" else ()
        code, err = interrupt(c, *args, *more)
        if code == 0:
            continue  # it was faster than the interrupt
        check(code == 4 and "to go on: kvctl " + args[0] in err, "^C: exit %d %s" % (code, err))
        again = err.split("to go on: kvctl ")[1].split()
        c.ctl(*again)
        if args[0] == "export":
            check(len(lines_of(path)) == count, "resumed after ^C: %d" % len(lines_of(path)))
    p = subprocess.Popen([program("kvctl"), "--url", c.url, "--timeout", "20s", "export", path,
                          "--replace"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    c.children.append(p)
    victim = c.leader_node()
    c.kill(victim)
    c.ctl("group", "split", "g1", ok=False)
    out, err = p.communicate(timeout=60)
    check(p.returncode == 0, "export: %s%s" % (out, err))
    check(len(lines_of(path)) == count, "export: %d keys, not %d" % (len(lines_of(path)), count))
    c.start(victim)
    p = subprocess.Popen([program("kvctl"), "--url", c.url, "import", path], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    c.children.append(p)
    c.wait_healthy()
    c.kill(c.leader_node())
    out, err = p.communicate(timeout=120)
    check(p.returncode == 0 and "%d keys written" % count in out, "import: %s%s" % (out, err))
    c.start()
    return "%d keys" % count


# ---- verify linear ----

def verify_linear(c):
    """Linearizable with a leader killed meanwhile; an update behind its back is found."""
    history = os.path.join(c.scratch, "canary.jsonl")
    p = subprocess.Popen([program("kvctl"), "--url", c.url, "-o", "json", "verify", "linear",
                          "--for", "6s", "--history", history], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    c.children.append(p)
    time.sleep(2)
    before, victim = c.leaders(), c.leader_node()
    c.kill(victim)
    c.wait_led_by_others(victim, before)
    out, err = p.communicate(timeout=60)
    check(p.returncode == 0, "verify: exit %d %s%s" % (p.returncode, out, err))
    verdict = json.loads(out)
    check(verdict["verdict"] == "linearizable" and verdict["ok"] > 1000, "verify: %s" % verdict)
    check(lincheck(history).returncode == 0, "lincheck thinks otherwise")
    with open(history) as f:
        kinds = {json.loads(line)["op"] for line in f}
    check(kinds == {"put", "get", "del", "cas"}, "kinds of operations: %s" % kinds)
    c.start(victim)
    c.wait_healthy()
    check("kvctl-verify:" not in c.ctl("export", "-").stdout, "its keys are left behind")
    meddled(c)
    return "%d operations, %d unknown" % (verdict["operations"], verdict["unknown"])


def meddled(c):
    """Somebody else writes the canary's keys: its history makes no sense, and it says so."""
    p = subprocess.Popen([program("kvctl"), "--url", c.url, "verify", "linear", "--for", "3s",
                          "--keys", "2", "--prefix", "meddled:"], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    c.children.append(p)
    keys = wait_until("the canary's keys", lambda: [
        json.loads(line)["key"] for line in c.ctl("export", "-").stdout.splitlines()
        if '"meddled:' in line], 3)
    written = 0
    while p.poll() is None:  # one that is overwritten before a get of the canary has seen it does not count
        for key in keys:
            c.ctl("put", key, "from outside %d" % written)
            written += 1
    out, err = p.communicate(timeout=60)
    check(p.returncode == 1 and out.startswith("NOT linearizable") and "from outside" in err,
          "none of %d updates from outside is found: exit %d %s%s" % (written, p.returncode, out, err))


# ---- other people's clients ----

def with_msgpack():
    """A Python that has msgpack: this one, or Debian's own."""
    for python in (sys.executable, "/usr/bin/python3"):
        if subprocess.run([python, "-c", "import msgpack"], capture_output=True).returncode == 0:
            return python
    raise Skipped("python3-msgpack is not installed")


def other_clients(c):
    """A client that has nothing of ours."""
    python = with_msgpack()
    p = subprocess.run([python, os.path.join(HERE, "other_client.py"),
                        *("127.0.0.1:%d" % (c.base + 1 + i) for i in range(c.nodes))],
                       capture_output=True, text=True, timeout=60)
    check(p.returncode == 0, "other_client.py: %s%s" % (p.stdout, p.stderr))
    return ", ".join(p.stdout.split())


def kinds_of_load(c):
    """kvbench's kinds of operations: all succeed, and what it counts is what there is."""
    small = ("--keys", "500", "--seconds", "1", "--clients", "16")
    bench(c, *small, "--load")
    r = bench(c, *small, "--reads", "100", "--mget", "20")
    check(abs(r["read"]["keys_per_s"] / r["read"]["ops_per_s"] - 20) < 0.1, "mget: %s" % r)
    r = bench(c, *small, "--reads", "0", "--batch", "20")
    check(abs(r["write"]["keys_per_s"] / r["write"]["ops_per_s"] - 20) < 0.1, "batch: %s" % r)
    r = bench(c, *small, "--load", "--reads", "0", "--if-version")
    check(0 < r["conflicts"] < r["ok"] / 2, "if-version: %s" % r)
    r = bench(c, "--keys", "1", "--key-size", "8", "--ops", "2000", "--warmup", "0", "--clients",
              "16", "--reads", "0", "--incr")
    check(c.ctl("get", "n0000000").stdout == "%d\n" % r["ok"] == "2000\n", "incr: %s" % r)
    bench(c, *small, "--reads", "0", "--no-session", "--ttl", "60000")
    for level in ("session", "bounded:500", "any"):
        bench(c, *small, "--read", level)
    p = run_program("kvbench", "--url", c.url, "--history", os.path.join(c.scratch, "h"), "--incr")
    check(p.returncode == 2 and "--history" in p.stderr, "history with incr: %s" % p.stderr)
    return ""


def import_under_load(c):
    """An import beside clients: their history stays linearizable."""
    load = Load(c)
    load.warm_up()
    path = os.path.join(c.scratch, "some.jsonl")
    with open(path, "w") as f:
        for i in range(20000):
            f.write('{"key":"import%d","value":"%d"}\n' % (i, i))
    c.ctl("import", path)
    c.ctl("export", path, "--replace")
    check(sum(str(k).startswith("import") for k in lines_of(path)) == 20000, "not all there")
    load.finish()
    return load.note()


TESTS = [
    (key_commands, {}),
    (times_to_live, {}),
    (read_levels, {}),
    (export_import, {"groups": 6, "cores": 2}),
    (transfer_under_faults, {}),
    (import_under_load, {}),
    (verify_linear, {}),
    (other_clients, {"cores": 2}),
    (kinds_of_load, {}),
]
