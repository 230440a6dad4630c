"""What one variant's part of a block took, and what it can have taken undisturbed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from optimize.judge.workers.process import WorkerSpec

# Share of a worker's part of a block that its threads may wait for a core. Beside a neighbour that
# keeps one of two cores busy, 99 % of the parts are above it; alone, 3 %. Half of it is too strict:
# 13 % are above that, for one lost time slice of 3 ms, which a median over blocks bears, and with
# six workers every second block would be taken again.
WAIT_SHARE = 0.2
# A block's undisturbed time is never taken to be less than this share of its wall time.
LEAST_SHARE = 0.01
# Nor are the two ends the same number: that would be an undisturbed block, beside which nobody
# wanted what is shared and in no account. The logarithm of a ratio has to show it.
LEAST_GAP = 1e-9
# A thread may run so many times as long as undisturbed, since it spins while another waits.
SPIN_FACTOR = 2.0
# Where threads spin for each other, what a wait costs beyond itself, caches filled again included:
# beside one busy process 2 % of it.
WAIT_COST = 1.25


@dataclass(frozen=True)
class Block:
    """One variant's part of a block.

    Attributes:
        calls_ns: durations of its calls.
        most_s: seconds per call: the mean, or where others disturbed the block, the most that it
            can have taken undisturbed.
        least_s: likewise the least; equal to the most where nothing disturbed it.
        cpu_s: seconds per call that all threads ran.
    """

    calls_ns: Sequence[int]
    most_s: float
    least_s: float
    cpu_s: float


def block_of(
    answer: Mapping[str, Any], spec: WorkerSpec, rows: int, taken_away_s: float | None
) -> Block:
    """A worker's part of a block.

    Args:
        answer: what it said.
        spec: the worker's.
        rows: texts, or batches of them, that its calls went round.
        taken_away_s: steal and throttling meanwhile; ``None`` where nothing disturbed the block.
    """
    calls_ns: Sequence[int] = answer["ns"]
    all_ran_s = float(answer.get("ran_s", 0.0))
    cpu_s = all_ran_s / len(calls_ns)
    if taken_away_s is None:
        mean_s = sum(calls_ns) / 1e9 / len(calls_ns)
        return Block(calls_ns, mean_s, mean_s, cpu_s)
    waited_s = float(answer.get("waited_s", 0.0)) + taken_away_s
    spinning, ran_s = (spec.threads, 0.0) if spec.spins else (1, all_ran_s / spec.threads)
    return Block(calls_ns, *bounds_s(calls_ns, waited_s, ran_s, spinning, rows), cpu_s)


def bounds_s(
    calls_ns: Sequence[int],
    waited_s: float,
    ran_s: float = 0.0,
    spinning: int = 1,
    rows: int = 1,
) -> tuple[float, float]:
    """The most and the least seconds per call that a disturbed block can have taken undisturbed.

    Waiting only adds time. The most is the mean over the rows of each one's median call: a slice of
    time that others take falls into few of many calls, and leaves the rest as they are; rows are of
    different lengths, so that a median over all calls would leave out the longest. The least is
    what all calls together took without the waits, and not less than half of what each thread ran:
    a thread that spins for another one runs, and beside busy processes ONNX Runtime's ran half as
    long again.

    Where threads spin at every barrier, as OpenMP's do, they hold each other up beyond what they
    wait for: beside one busy process a PyTorch call of 4.9 ms took 144 on two cores, of which 137
    were waits. That is little of the waits and much of what is left. So what is left is divided by
    the number of threads, or a quarter more than the waits is taken off, whichever leaves more; and
    what they ran tells nothing.

    Args:
        calls_ns: durations of its calls.
        waited_s: seconds that its threads waited, steal and throttling included.
        ran_s: seconds that each of its threads ran, on average; 0 where that tells nothing.
        spinning: threads that spin at every barrier; 1 where none do.
        rows: texts, or batches of them, that the calls went round, one after the other.
    """
    wall_s = sum(calls_ns) / 1e9
    most_s = float(np.mean([np.median(calls_ns[row::rows]) for row in range(rows)])) / 1e9
    left_s = wall_s - waited_s
    if spinning > 1:
        left_s = max(left_s / spinning, wall_s - WAIT_COST * waited_s)
    least_s = max(left_s, ran_s / SPIN_FACTOR, wall_s * LEAST_SHARE)
    return most_s, min(most_s * (1 - LEAST_GAP), least_s / len(calls_ns))


def had_to_wait(answer: Mapping[str, Any]) -> bool:
    """Whether a worker's threads waited for a core for more than a share of its block."""
    lasted_s = sum(answer["ns"]) / 1e9
    return bool(answer.get("waited_s", 0.0) > WAIT_SHARE * lasted_s)
