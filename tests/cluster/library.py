"""libkvclient as applications use it: the examples of client/examples against a playground."""
import os
import subprocess

from playground import BIN, Skipped, check

EXAMPLES = os.path.join(os.path.dirname(BIN), "examples")
# What each one has to print, in this order.
SAYS = {
    "sync": ("greeting = hello again (version ", "alice has -5, bob has 5", "greeting = hello again",
             "visitor = here for a minute", "nobody: no such key"),
    "epoll": ("1000 calls, 0 failed, counter = 1000",),
    "libuv": ("10 of 10 keys read back",),
}


def examples(c):
    missing = []
    for name, lines in SAYS.items():
        program = os.path.join(EXAMPLES, name)
        if not os.path.exists(program):
            missing.append(name)
            continue
        for url in (c.url, "kv://127.0.0.1:1," + c.url[len("kv://"):]):
            p = subprocess.run([program, url], capture_output=True, text=True, timeout=60, check=False)
            check(p.returncode == 0, "%s: %d %s%s" % (name, p.returncode, p.stdout, p.stderr))
            at = 0
            for line in lines:
                at = p.stdout.find(line, at)
                check(at >= 0, "%s does not say \"%s\": %s" % (name, line, p.stdout))
            if name == "sync":  # its balances go on from where they were
                break
    if len(missing) == len(SAYS):
        raise Skipped("no example is built")
    return "not built: %s" % ", ".join(missing) if missing else ""
