"""What an operator installs and what a supervisor is told. Each test is a function of one of the
modules beside; a test that this machine cannot run says so and is skipped."""
import sys
import time

sys.dont_write_bytecode = True

import common  # noqa: E402  (finds the cluster tests' helpers)
import daemons_told  # noqa: E402
import machine  # noqa: E402
import packages  # noqa: E402
import pages  # noqa: E402
import settings  # noqa: E402
import units  # noqa: E402

TESTS = [
    settings.samples, settings.mistakes, settings.reload_by_signal,
    units.verified, units.hardened, units.users_and_directories, units.exit_codes,
    units.io_uring_forbidden,
    packages.installed, packages.debs, packages.manual,
    daemons_told.placementd_alone, daemons_told.shardd_waits_for_its_cluster,
    pages.endpoints, pages.metrics, pages.rules,
    machine.lives,
]


def main(names):
    failed = skipped = 0
    start = time.monotonic()
    for test in TESTS:
        name = "%s.%s" % (test.__module__, test.__name__)
        if names and name not in names and test.__name__ not in names:
            continue
        began = time.monotonic()
        try:
            note = test() or ""
            word = "ok"
        except common.Skipped as e:
            word, note = "skip", str(e)
            skipped += 1
        except (common.Failed, OSError, ValueError, KeyError) as e:
            word, note = "FAIL", "%s: %s" % (type(e).__name__, e)
            failed += 1
        print("  %-5s %-42s %5.1f s  %s" % (word, name, time.monotonic() - began, note), flush=True)
    common.cleanup()
    print("deploy: %d failed, %d skipped, %.0f s" % (failed, skipped, time.monotonic() - start))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
