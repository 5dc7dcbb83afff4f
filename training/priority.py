"""Training takes only the processor time that nobody else wants."""

from __future__ import annotations

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

# Threads of one computation that wait for each other spin for microseconds, then sleep. Spinning on
# (the default) made a line's features 20 times slower where a sibling had to wait for a core; never
# spinning makes a step on idle cores twice as slow. Read when torch is imported.
CALM = {"GOMP_SPINCOUNT": "1000"}


AUTOGROUP = Path("/proc/self/autogroup")
"""Linux may share the processor among sessions first (sched(7), autogroup), whatever their policies."""


def yield_to_others() -> str:
    """Put this thread, and all that it starts from now on, behind all others.

    Linux's SCHED_IDLE policy gives way to serving within a millisecond; where there is none, the
    lowest niceness has to do. A session that this process leads, as the scheduler starts it, goes
    behind other sessions too; one that others share, such as a terminal's, is left alone. There is
    no way back. Call it before torch is imported. Returns what was set.
    """
    os.environ.update(CALM)
    if AUTOGROUP.exists() and os.getsid(0) == os.getpid():
        try:
            AUTOGROUP.write_text("19")
        except OSError as error:
            log.warning("this session keeps its share of the processor: %s", error)
    if not hasattr(os, "SCHED_IDLE"):
        os.nice(19)
        return "nice"
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    return "idle"


def current() -> str:
    """The policy of this process: "idle" after `yield_to_others` on Linux, else "normal"."""
    idle = hasattr(os, "SCHED_IDLE") and os.sched_getscheduler(0) == os.SCHED_IDLE
    return "idle" if idle else "normal"
