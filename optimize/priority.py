"""Who runs before others on the same cores."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

# The nice value of a process that runs before all others.
FIRST_PRIORITY = -20


def take_priority(autogroup: Path = Path("/proc/self/autogroup")) -> bool:
    """Have this process run before others on the same cores, where the system lets it.

    Linux shares the cores between sessions first (sched(7), "The autogroup feature"), and between
    the processes of one by their nice values. So this process gets a session of its own, and both
    get the first place. It takes root, ``CAP_SYS_NICE``, or a limit on nice that allows it
    (``prlimit --nice=40``).

    Returns:
        Whether it has it.
    """
    if not hasattr(os, "setpriority"):
        return False
    with suppress(OSError):  # it leads one already
        os.setsid()
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, FIRST_PRIORITY)
    with suppress(OSError):
        autogroup.write_text(f"{FIRST_PRIORITY}\n", encoding="ascii")
    return os.getpriority(os.PRIO_PROCESS, 0) == FIRST_PRIORITY
