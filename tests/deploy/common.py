"""Directories, daemons under a supervisor's socket, HTTP: what the tests of deploy/ share."""
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "cluster"))

from playground import (BIN, TOP, Failed, Skipped, check, free_base, program,  # noqa: E402,F401
                        run_program, wait_until)

MAKE_VARIABLES = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "GNUMAKEFLAGS")
made = []      # directories
started = []   # Daemons


def directory():
    d = tempfile.mkdtemp(prefix="shardkv-deploy.")
    os.chmod(d, 0o755)
    made.append(d)
    return d


def cleanup():
    for d in started:
        d.kill()
    for path in made:
        shutil.rmtree(path, ignore_errors=True)


def run(*command, **kw):
    kw.setdefault("timeout", 120)
    return subprocess.run(command, capture_output=True, text=True, **kw)


def must(*command, **kw):
    p = run(*command, **kw)
    check(p.returncode == 0, "%s: exit %d\n%s%s" % (" ".join(command), p.returncode, p.stdout,
                                                   p.stderr))
    return p


def make(*args):
    """make, without the jobs and variables of the one that runs us; the same build."""
    env = {k: v for k, v in os.environ.items() if k not in MAKE_VARIABLES}
    build = os.path.dirname(os.path.abspath(BIN))
    mode = "release" if os.path.basename(build) == "build" else os.path.basename(build)
    return must("make", "--no-print-directory", "-C", TOP, "MODE=" + mode, *args, env=env,
                timeout=600)


def needed(*tools):
    for tool in tools:
        if not shutil.which(tool):
            raise Skipped("there is no %s here" % tool)


def root_needed():
    if os.geteuid() != 0:
        raise Skipped("only root can do that")


class Daemon:
    """A daemon with a supervisor's socket and what it has told there: [(seconds, line)]."""

    def __init__(self, name, *args, watchdog_s=0, config=None):
        self.dir = directory()
        path = os.path.join(self.dir, "notify")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(path)
        self.sock.setblocking(False)
        self.told = []
        self.log_path = os.path.join(self.dir, "log")
        env = dict(os.environ, NOTIFY_SOCKET=path)
        if watchdog_s:
            env["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
        command = [program(name), *(["--config", config] if config else [])]
        for a in args:
            command += ["--set", a]
        with open(self.log_path, "w") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=log, env=env)
        self.name = name
        self.begun = time.monotonic()
        started.append(self)

    def listen(self):
        while True:
            try:
                data = self.sock.recv(4096)
            except BlockingIOError:
                return
            at = time.monotonic() - self.begun
            self.told += [(at, line) for line in data.decode().split("\n") if line]

    def has(self, text, after=0):
        self.listen()
        return [line for _, line in self.told[after:] if line.startswith(text)]

    def count(self):
        self.listen()
        return len(self.told)

    def log(self):
        with open(self.log_path) as f:
            return f.read()

    def wait(self, text, seconds=15, after=0):
        def said():
            return "%s tells %s\n%s\n%s" % (self.name, text, self.told, self.log()[-2000:])

        def look():
            check(self.process.poll() is None, "%s has ended: %s" % (self.name, self.log()))
            return self.has(text, after)
        return wait_until(said, look, seconds)

    def wait_log(self, text, seconds=10):
        wait_until(lambda: "\"%s\" in the log:\n%s" % (text, self.log()[-3000:]),
                   lambda: text in self.log(), seconds)

    def stop(self):
        """SIGTERM; it has to say that it stops, and to end with 0."""
        before = self.count()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            raise Failed("%s does not stop: %s" % (self.name, self.log()[-2000:])) from None
        check(code == 0, "%s: exit %d\n%s" % (self.name, code, self.log()[-2000:]))
        check(self.has("STOPPING=1", before), "%s did not tell that it stops" % self.name)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.sock.close()


def placementd_args(base, data):
    return ("node.id=1", "node.data-dir=" + data, "listen.client=127.0.0.1:%d" % (base + 101),
            "listen.peer=127.0.0.1:%d" % (base + 301), "listen.http=127.0.0.1:%d" % (base + 501))


def shardd_args(base, data):
    return ("node.id=n1", "node.cores=1", "node.data-dir=" + data,
            "listen.client=127.0.0.1:%d" % (base + 1), "listen.peer=127.0.0.1:%d" % (base + 201),
            "listen.http=127.0.0.1:%d" % (base + 401),
            "cluster.placement=127.0.0.1:%d" % (base + 101))


def get(port, path, method="GET"):
    """(status, content type, body)"""
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        c.request(method, path)
        r = c.getresponse()
        return r.status, r.getheader("Content-Type"), r.read().decode()
    finally:
        c.close()
