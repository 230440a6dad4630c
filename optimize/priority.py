"""Who runs before others on the same cores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# The nice value of a process that runs before all others.
FIRST_PRIORITY = -20
# The lowest real-time priority: above all that has none, below what an administrator set so.
REAL_TIME = 1
# Microseconds of every second that the system lets real-time threads have; -1 where it is all.
RUNTIME = Path("/proc/sys/kernel/sched_rt_runtime_us")


def take_priority(autogroup: Path = Path("/proc/self/autogroup")) -> None:
    """Have this process run before others on the same cores, where the system lets it.

    Linux shares the cores between sessions first (sched(7), "The autogroup feature"), and between
    the processes of one by their nice values. So this process gets a session of its own, and both
    get the first place. It takes root, ``CAP_SYS_NICE``, or a limit on nice that allows it
    (``prlimit --nice=40``).
    """
    if not hasattr(os, "setpriority"):
        return
    with suppress(OSError):  # it leads one already
        os.setsid()
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, FIRST_PRIORITY)
    with suppress(OSError):
        autogroup.write_text(f"{FIRST_PRIORITY}\n", encoding="ascii")


@contextmanager
def real_time(tasks: Path = Path("/proc/self/task"), runtime: Path = RUNTIME) -> Iterator[bool]:
    """Within it the threads of this process run in real time, where the system lets them.

    First place by nice values does not do on every machine: a thread that wakes waits until the one
    that it finds on the core has used up its slice, and two threads of one process may share a core
    for milliseconds while another is free. Real-time threads wait for nobody but each other, and
    are moved to a free core at once (sched(7), "SCHED_RR"). All cores may be taken meanwhile, so
    this is for moments; Linux leaves others a twentieth of the time, and where it was told not to,
    nothing is done: whoever waits for a thread that never ends could not end it. It takes root,
    ``CAP_SYS_NICE``, or a limit that allows it (``prlimit --rtprio=1``).

    Gives:
        Whether they do. A process that has a policy of its own keeps it.
    """
    if not hasattr(os, "sched_setscheduler"):
        yield False
        return
    if (own := _policy()) != os.SCHED_OTHER:
        yield own in (os.SCHED_FIFO, os.SCHED_RR)
        return
    if not _leaves_time_to_others(runtime):
        yield False
        return
    has = _schedule(tasks, os.SCHED_RR, REAL_TIME)
    try:
        yield has
    finally:
        if has:
            _schedule(tasks, os.SCHED_OTHER, 0)


def _leaves_time_to_others(runtime: Path) -> bool:
    try:
        return int(runtime.read_text(encoding="ascii")) >= 0
    except (OSError, ValueError):
        return False


def _schedule(tasks: Path, policy: int, priority: int) -> bool:
    """Give every thread a policy; whether this one took it."""
    # What is begun meanwhile, threads and processes, has none of it. The flag can be set by
    # everybody and taken back by few, so it stays; what is begun later has the session's place.
    flagged = policy | os.SCHED_RESET_ON_FORK
    for task in tasks.glob("[0-9]*"):
        with suppress(OSError):  # it may end meanwhile, or the system refuses it
            os.sched_setscheduler(int(task.name), flagged, os.sched_param(priority))
    return _policy() == policy


def _policy() -> int:
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
