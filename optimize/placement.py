"""Which core each thread of this process runs on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from optimize.machine import neighbours

TASKS = Path("/proc/self/task")


@contextmanager
def apart(
    threads: int, tasks: Path = TASKS, others: Callable[[], int] = neighbours
) -> Iterator[bool]:
    """Within it the busiest threads of this process have a core each.

    After a pause Linux has two threads of one process share a core for milliseconds while another
    is free. Everybody may hold threads of one's own where they are (sched_setaffinity(2)). That is
    done only where there are as many threads as cores: else it would be a choice of cores, slow or
    fast ones or two halves of one. And only while nobody else wants a core, since a thread that is
    held cannot make way. Where a thread has an affinity of its own, nothing is done.

    Args:
        threads: that work.
        tasks: where the system lists this process's threads.
        others: how many others want a core now.

    Gives:
        Whether they have.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2 or threads != len(cores) or others():
        yield False
        return
    own = {thread: _affinity(thread) for thread in _threads(tasks)}
    busiest = busiest_first(tasks)[:threads]
    if any(own.get(thread) != cores for thread in busiest):
        yield False
        return
    try:
        # Fewer threads than cores where some have not begun yet.
        for thread, core in zip(busiest, cores, strict=False):
            _allow(thread, [core])
        yield True
    finally:
        for thread in _threads(tasks):  # one that began meanwhile is where its parent was
            _allow(thread, own.get(thread, cores))


def busiest_first(tasks: Path = TASKS) -> list[int]:
    """This process's threads by the time that they have run."""

    def ran(thread: int) -> int:
        with suppress(OSError, ValueError, IndexError):  # it may end meanwhile
            # Nanoseconds, schedstat's first figure (kernel documentation, "Scheduler Statistics").
            return int((tasks / str(thread) / "schedstat").read_text("ascii").split()[0])
        return 0

    return sorted(_threads(tasks), key=ran, reverse=True)


def _threads(tasks: Path) -> list[int]:
    return sorted(int(task.name) for task in tasks.glob("[0-9]*"))


def _affinity(thread: int) -> list[int]:
    with suppress(OSError):
        return sorted(os.sched_getaffinity(thread))
    return []


def _allow(thread: int, cores: list[int]) -> None:
    with suppress(OSError):  # it may end meanwhile, or the system refuses it
        os.sched_setaffinity(thread, cores)
