"""`python -m training RUN_ID`: take a training run through its cycle. Exit status 0 or 1.

SIGTERM stops it in good order and leaves the run to be resumed (then the status is 143).
"""

from __future__ import annotations

import logging
import signal
import sys

from training.priority import yield_to_others

STOPPED = 128 + signal.SIGTERM


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m training RUN_ID", file=sys.stderr)
        return 1
    yield_to_others()  # before anything starts a thread or a process
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STOPPED))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # MLflow being away is told once, by us
    from redpencil.errors import RedpencilError
    from redpencil.settings import Settings
    from training import cycle

    try:
        cycle.run(sys.argv[1], Settings())
    except RedpencilError as error:
        print(f"{sys.argv[1]} failed: {error}", file=sys.stderr)
        return 1
    except SystemExit:  # SIGTERM; out of Ray it comes with another status
        return STOPPED
    except Exception:
        logging.exception("%s failed", sys.argv[1])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
