#!/usr/bin/env python3
"""Faults against real processes. A run under load counts only if enough writes succeeded before and
after the fault and the fault is proven to have taken effect; the recorded history has to be
linearizable, and the checker has to refuse the same history with one acknowledged write taken out.

`cluster_test.py [NAME...]`; the last line is "cluster: N passed, M failed, K skipped"."""
import inspect
import os
import signal
import sys
import time
import traceback

import apps
import daemons
import disks
import faults
import library
import operate
import placement
from playground import Failed, Playground, Skipped, program

# A test is a function of a playground, or of nothing. Settings of its playground beside it.
TESTS = [
    (daemons.port_in_use, {}),
    (daemons.unwritable_directory, {}),
    (daemons.few_file_handles, {}),
    (disks.directory_in_use, {}),
    (disks.foreign_directory, {"nodes": 1, "groups": 1}),
    (faults.leader_killed, {}),
    (faults.leader_killed_two_cores, {"cores": 2}),
    (faults.majority_killed, {}),
    (faults.all_killed, {}),
    (faults.put_then_kill_all, {}),
    (faults.crash_loop, {}),
    (faults.leader_paused, {}),
    (faults.majority_paused, {}),
    (faults.graceful_stop, {}),
    (faults.placement_down, {}),
    (faults.follower_by_snapshot, {}),
    (faults.wiped_node, {}),
    (disks.torn_tail, {}),
    (disks.flipped_bit, {}),
    (disks.disk_full, {"disk": disks.small_disk}),
    (disks.disk_full_at_once, {"disk": disks.small_disk}),
    (disks.tiny_disk_full, {"disk": disks.tiny_disk}),
    (daemons.garbage, {}),
    (operate.grow_and_drain, {"groups": 6}),
    (operate.group_commands, {}),
    (operate.cancel_and_detach, {}),
    (operate.rolling_restart, {}),
    (operate.node_down, {}),
    (operate.map_backup, {}),
    (library.examples, {"nodes": 3, "groups": 6}),
    (library.exactly_once, {}),
    *placement.TESTS,
    *apps.TESTS,
]


def run_on_playground(test, settings):
    settings = dict(settings)
    directory, undo = settings.pop("disk", lambda: (None, None))()
    c = Playground(directory=directory, **settings)
    passed = False
    try:
        c.start()
        note = test(c)
        passed = True
        return note
    except BaseException:
        for name in c.names():
            if c.log(name):
                print("--- last lines of %s\n%s" % (name, c.tail(name)))
        raise
    finally:
        try:
            c.close(verify=passed)
        finally:
            if undo:
                undo()


def run(test, settings):
    if inspect.signature(test).parameters:
        return run_on_playground(test, settings)
    return test()


def stop_cleanly(number, frame):
    raise KeyboardInterrupt


def main():
    names = sys.argv[1:]
    known = [test.__name__ for test, _ in TESTS]
    wrong = [n for n in names if n not in known]
    if wrong:
        print("no test %s; there are: %s" % (" ".join(wrong), " ".join(known)), file=sys.stderr)
        return 2
    for name in ("shardd", "placementd", "kvctl", "kvbench", "lincheck"):
        if not os.access(program(name), os.X_OK):
            print("there is no %s: make all build/bin/lincheck" % program(name), file=sys.stderr)
            return 2
    signal.signal(signal.SIGTERM, stop_cleanly)
    passed = failed = skipped = 0
    for test, settings in TESTS:
        name = test.__name__
        if names and name not in names:
            continue
        t0 = time.monotonic()
        try:
            note = run(test, settings)
            passed += 1
            print("  ok    %s (%.0f s) %s" % (name, time.monotonic() - t0, note))
        except Skipped as e:
            skipped += 1
            print("  skip  %s: %s" % (name, e))
        except Exception as e:
            failed += 1
            if not isinstance(e, Failed):
                traceback.print_exc(file=sys.stdout)
            print("  FAIL  %s (%.0f s): %s" % (name, time.monotonic() - t0, e))
        sys.stdout.flush()
    print("cluster: %d passed, %d failed, %d skipped" % (passed, failed, skipped))
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
