"""What the daemons tell systemd (sd_notify), seen through a socket of ours."""
import os
import time

from common import Daemon, check, directory, free_base, get, placementd_args, shardd_args


def fed(daemon, seconds, least):
    before = daemon.count()
    time.sleep(seconds)
    n = len(daemon.has("WATCHDOG=1", before))
    check(n >= least, "fed %d times in %.1f s, at least %d are needed" % (n, seconds, least))


def placementd_alone():
    """Replay, ready once there is a leader, fed twice a watchdog's time, stopping."""
    base = free_base(1)
    data = os.path.join(directory(), "data")
    for _ in range(2):  # the second time with something to replay
        p = Daemon("placementd", *placementd_args(base, data), watchdog_s=1)
        p.wait("STATUS=replaying")
        p.wait("READY=1", 12)
        p.wait("STATUS=leader")
        fed(p, 1.5, 3)
        p.stop()
    return ""


def shardd_waits_for_its_cluster():
    """A new node is not ready before placementd has taken it, and is not taken for one that hangs;
    later it is ready without placementd, too."""
    base = free_base(1)
    data = os.path.join(directory(), "data")
    n = Daemon("shardd", *shardd_args(base, data), watchdog_s=1)
    n.wait("STATUS=replaying the log")
    n.wait("STATUS=waiting for placementd")
    n.wait("EXTEND_TIMEOUT_USEC=60000000")
    time.sleep(1)
    check(not n.has("READY=1"), "ready without a cluster")
    check(get(base + 401, "/livez")[0] == 200, "/livez while it waits")
    status, _, body = get(base + 401, "/readyz")
    check(status == 503 and "placementd" in body, "/readyz without a cluster: %d %s" % (status, body))
    p = Daemon("placementd", *placementd_args(base, os.path.join(directory(), "data")))
    n.wait("READY=1")
    n.wait("STATUS=serving")
    fed(n, 1.5, 3)
    p.stop()
    n.stop()
    again = Daemon("shardd", *shardd_args(base, data))
    again.wait("READY=1", 14)
    check(again.has("STATUS=serving; placementd does not answer"), "%s" % again.told)
    again.stop()
    return "ready alone after %.0f s" % next(t for t, line in again.told if line == "READY=1")
