"""README.md's section "Operate it", run as a reader would: every command of its transcript in a fresh
playground, every output compared with the one printed there.

What differs from run to run is taken out of both first: numbers, sizes, times, addresses, names of
nodes and groups, rows of a table that look alike, the reasons that a plan gives, a watch's progress.
Ids that a command prints for the next one are those of this run. Commands that only look are
repeated until what they show has come about."""
import os
import re
import shutil
import subprocess
import tempfile
import time

from playground import BIN, TOP, check, free_base

SECTION = "## Operate it"
LOOKS = re.compile(r"^kvctl (status|nodes|groups|why|get|rebalance status|operator list)\b")
HEADER = re.compile(r"^[A-Z][A-Z-]+( +[A-Z-]+)+$")
ROW = re.compile(r"^(move|transfer-leader|[gnp]\d+) ")
PROGRESS = re.compile(r"^[a-z][a-z0-9 ]* +\d+%  ")
PLAN_ID = re.compile(r"kvctl rebalance apply ([0-9a-f]+)")
COMMAND_SECONDS = 60
LOOK_SECONDS = 40


def steps(text):
    """[(command, expected output)] of the section."""
    check(SECTION in text, "README.md has no section \"%s\"" % SECTION[3:])
    section = text.split(SECTION, 1)[1].split("\n## ", 1)[0]
    found = []
    for block in re.findall(r"^```\n(.*?)^```$", section, re.M | re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif found:
                found[-1][1].append(line)
    return [(command, "\n".join(lines)) for command, lines in found]


def plain(line):
    """The line without what differs from run to run."""
    for pattern, to in (
            (r"\d+\.\d+\.\d+\.\d+:\d+", "ADDRESS"),
            (r"(at topology version|pid) \d+", r"\1 #"),
            (r"\b[0-9a-f]{8}\b", "ID"),
            (r"\b\d+(\.\d+)?(B|[KMGTP]iB)\b", "SIZE"),
            (r"\b(\d+[dhms])+\b|\b\d+\.\d+ s\b", "TIME"),
            (r"\b([gnp])\d+\b", r"\1#"),
            (r", \d+ leader transfers?\b", ""),      # there may be none
            (r"\b\d+ ([a-z]+?)s?\b", r"# \1"),         # one move, two moves
            (r"# group runs? on", "# group run on"),
            (r" /\S+/run\b", " DIR"),
            (r"\d+", "#"),
            (r" +", " ")):
        line = re.sub(pattern, to, line)
    return line.strip()


def shape(output):
    """What has to be equal: plain lines, and of each table its header and its kinds of rows."""
    lines, columns, rows = [], None, None
    for line in output.splitlines():
        if PROGRESS.match(line):
            continue
        if HEADER.match(line):
            columns = line.index(" WHY") if line.endswith(" WHY") else None
            rows = set()
            lines += [" ".join(w for w in line.split() if w != "WHAT"), rows]
        elif rows is not None and ROW.match(line):
            rows.add(re.sub(r"^(move|transfer-leader) ", "", plain(line[:columns])))
        else:
            rows = None
            lines.append(plain(line))
    return lines


def run(command, env, directory):
    p = subprocess.run(["sh", "-c", command], env=env, cwd=directory, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
                       timeout=COMMAND_SECONDS)
    return p.stdout


def follow(command, expected, env, directory):
    """Runs it until it says what it should; a command that changes something runs once."""
    end = time.monotonic() + (LOOK_SECONDS if LOOKS.match(command) else 0)
    while True:
        said = run(command, env, directory)
        if shape(said) == shape(expected):
            return said
        check(time.monotonic() < end, "$ %s\n--- README.md says\n%s\n--- it says\n%s\n--- compared\n"
              "%s\n%s" % (command, expected, said, shape(expected), shape(said)))
        time.sleep(0.2)


def readme_transcript():
    """The whole of it, from a start to a destroy."""
    with open(os.path.join(TOP, "README.md")) as f:
        todo = steps(f.read())
    check(len(todo) >= 15, "only %d commands in the transcript" % len(todo))
    directory = tempfile.mkdtemp(prefix="shardkv-cluster.")
    env = {k: v for k, v in os.environ.items() if k != "KV_URL"}
    env["PATH"] = BIN + ":" + env["PATH"]
    ids, base = {}, free_base(5)
    try:
        for i, (command, expected) in enumerate(todo):
            for there, here in ids.items():
                command = command.replace(there, here)
            if i == 0:
                command += " --base-port %d" % base
            said = follow(command, expected, env, directory)
            ids.update(zip(PLAN_ID.findall(expected), PLAN_ID.findall(said)))
        check(not os.path.exists(os.path.join(directory, "run")), "the transcript leaves ./run")
    finally:
        run("kvctl --yes playground destroy", env, directory)
        shutil.rmtree(directory, ignore_errors=True)
    return "%d commands" % len(todo)


TESTS = [(readme_transcript, {})]
