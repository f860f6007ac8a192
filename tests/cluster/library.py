"""libkvclient as applications use it: the examples of client/examples against a playground, and
counters that are counted up through faults by way of the shared library itself."""
import ctypes
import os
import subprocess
import threading
import time

from playground import BIN, Skipped, check

EXAMPLES = os.path.join(os.path.dirname(BIN), "examples")
LIBRARY = os.path.join(os.path.dirname(BIN), "lib", "libkvclient.so.1")
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
        p = subprocess.run([program, c.url], capture_output=True, text=True, timeout=60, check=False)
        check(p.returncode == 0, "%s: %d %s%s" % (name, p.returncode, p.stdout, p.stderr))
        at = 0
        for line in lines:
            at = p.stdout.find(line, at)
            check(at >= 0, "%s does not say \"%s\": %s" % (name, line, p.stdout))
    if len(missing) == len(SAYS):
        raise Skipped("no example is built")
    return "not built: %s" % ", ".join(missing) if missing else ""


class Slice(ctypes.Structure):
    _fields_ = [("data", ctypes.c_char_p), ("len", ctypes.c_size_t)]


class Handle:
    """A kv_client. Calls release Python's lock while they wait."""

    def __init__(self, url):
        self.lib = ctypes.CDLL(LIBRARY)
        self.lib.kv_result_number.restype = ctypes.c_int64
        self.lib.kv_close.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
        self.lib.kv_incr.argtypes = [ctypes.c_void_p, Slice, ctypes.c_int64, ctypes.c_void_p,
                                     ctypes.POINTER(ctypes.c_void_p)]
        for f in (self.lib.kv_result_number, self.lib.kv_result_maybe_applied,
                  self.lib.kv_result_free):
            f.argtypes = [ctypes.c_void_p]
        self.kv = ctypes.c_void_p()
        message = ctypes.create_string_buffer(256)
        e = self.lib.kv_open(url.encode(), None, ctypes.byref(self.kv), message, 256)
        check(e == 0, "kv_open: %s" % message.value)

    def incr(self, key, delta):
        """(error, number, maybe applied)"""
        result = ctypes.c_void_p()
        e = self.lib.kv_incr(self.kv, Slice(key.encode(), len(key)), delta, None,
                             ctypes.byref(result))
        out = e, self.lib.kv_result_number(result), self.lib.kv_result_maybe_applied(result)
        self.lib.kv_result_free(result)
        return out

    def retried(self):
        """Calls that were sent more than once: the 15th number of kv_stats."""
        stats = (ctypes.c_uint64 * 64)()
        stats[0] = ctypes.sizeof(stats)
        check(self.lib.kv_get_stats(self.kv, ctypes.byref(stats)) == 0, "kv_get_stats")
        return stats[14]

    def close(self):
        self.lib.kv_close(self.kv, 5000)


class Counting(threading.Thread):
    """Counts keys up by one until it is told to stop."""

    def __init__(self, handle, keys):
        super().__init__(daemon=True)
        self.handle, self.keys, self.going = handle, keys, True
        self.numbers = {k: [] for k in keys}
        self.unknown = dict.fromkeys(keys, 0)
        self.failed = 0

    def run(self):
        i = 0
        while self.going:
            key = self.keys[i % len(self.keys)]
            i += 1
            e, number, maybe = self.handle.incr(key, 1)
            if e == 0:
                self.numbers[key].append(number)
            elif maybe:
                self.unknown[key] += 1
            else:
                self.failed += 1


def exactly_once(c):
    """Counters through kill -9, a pause and a graceful stop: every acknowledged step is there once."""
    keys = ["counter%d" % i for i in range(8)]
    handles = [Handle(c.url) for _ in range(4)]
    threads = [Counting(h, keys) for h in handles for _ in range(12)]
    for t in threads:
        t.start()
    time.sleep(1)
    for fault in ("kill", "pause", "kill", "stop", "kill"):
        victim = c.leader_node()
        if fault == "kill":
            c.kill(victim)
        elif fault == "pause":
            c.pause(victim)
        else:
            c.stop(victim)
        time.sleep(2)
        if fault == "pause":
            c.resume()
        else:
            c.start(victim)
        time.sleep(2)
    for t in threads:
        t.going = False
    for t in threads:
        t.join(30)
        check(not t.is_alive(), "a call has not come back")
    retried = sum(h.retried() for h in handles)
    total = unknown = 0
    for key in keys:
        numbers = sorted(n for t in threads for n in t.numbers[key])
        maybe = sum(t.unknown[key] for t in threads)
        e, last, _ = handles[0].incr(key, 0)
        check(e == 0, "%s cannot be read: %d" % (key, e))
        check(len(set(numbers)) == len(numbers), "%s: a number was given twice" % key)
        check(len(numbers) <= last <= len(numbers) + maybe,
              "%s is %d after %d acknowledged steps and %d of unknown outcome"
              % (key, last, len(numbers), maybe))
        total += len(numbers)
        unknown += maybe
    for h in handles:
        h.close()
    check(retried > 0, "nothing was ever sent again: the faults had no effect")
    return "%d steps, %d sent again, %d of unknown outcome, %d failed" % (
        total, retried, unknown, sum(t.failed for t in threads))
