"""Error rates of the timing gates beside busy neighbours, shown by simulation.

    python -m optimize.experiments.busy_simulation [--runs 1000] [--seed 0]

A neighbour takes the cores for slices of 3 to 12 ms, of which the waits that the kernel counts
tell within 10 %. It slows what runs beside it by up to a quarter, on either side, for seconds at a
time. The hypervisor takes up to 5 % that nobody counts. At a true ratio 5 % below the limit no run
may pass, 5 % above none may fail, and at twice the limit 95 % of the runs must be decided. At half
of it they are only counted: beside a busy neighbour a failure may stay undecided, and is no pass
then. The very functions that judge real runs judge these. Exits 1 where a requirement is not met.
"""

from __future__ import annotations

import argparse
import math
import sys
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from optimize.judge.gates.control import timing_verdict
from optimize.judge.records import Mode, Series
from optimize.judge.statistics.sequential import LOOKS, Floats, Verdict
from optimize.judge.workers.blocks import WAIT_SHARE, bounds_s

BLOCKS = {"full": 24, "quick": 8}
REPLICATES = {"full": LOOKS[1], "quick": 3}
TIMING_GATES = 8
BLOCK_S = 0.02
# In a block: a teacher that fills it with one call, and a student many times as fast.
CALLS = {"reference": 1, "candidate": 20}
SLICE_S = (0.003, 0.012)
FAIR_SHARE = 0.5
ACCOUNTED = (0.9, 1.1)
UNSEEN_SHARE = 0.05
CONTENTION = 1.25
SCATTER = 0.03
LIMIT = 5.0
RATIOS = (0.5, 0.95, 1.05, 2.0)  # of the limit
LEAST_DECIDED = 0.95


@dataclass(frozen=True)
class Neighbour:
    """What runs beside the workers.

    Attributes:
        duty: share of the time in which it wants the cores.
        slows: whom it slows by up to a quarter: ``either``, at random and for a replicate, or
            always the ``reference`` or the ``candidate``, and then by all of it.
    """

    duty: float
    slows: str = "either"

    @property
    def name(self) -> str:
        """Of the row."""
        return f"duty {self.duty:.0%}, slows {self.slows}"


NEIGHBOURS = tuple(
    Neighbour(duty, slows)
    for duty in (0.25, 0.5, 0.9)
    for slows in ("either", "reference", "candidate")
)


class Pair(NamedTuple):
    """The times of one simulated run."""

    reference: Series
    candidate: Series


def run_of(rng: Generator, neighbour: Neighbour, ratio: float, mode: Mode) -> Pair:
    """One run whose true ratio is so much.

    Args:
        rng: source of all chance.
        neighbour: what runs beside.
        ratio: true t_reference / t_candidate.
        mode: how many replicates and blocks.
    """
    shape = (REPLICATES[mode], BLOCKS[mode])
    blocks: dict[str, list[list[tuple[float, float, float]]]] = {}
    disturbed = np.zeros(shape, dtype=bool)
    for side, calls in CALLS.items():
        work = BLOCK_S * np.exp(SCATTER * rng.standard_normal(shape))
        work = work * _contention(rng, neighbour, side, shape)
        work = work * (1 + rng.uniform(0, UNSEEN_SHARE, shape))
        waits = _waits(rng, neighbour.duty, work, calls)
        calls_s = work[..., None] / calls + waits
        waited_s = waits.sum(axis=-1) * rng.uniform(*ACCOUNTED, shape)
        wall_s = calls_s.sum(axis=-1)
        disturbed |= waited_s > WAIT_SHARE * wall_s
        # In seconds per unit of work, so that the two sides differ by the true ratio alone.
        unit = calls * (ratio if side == "reference" else 1.0)
        blocks[side] = [
            [
                (unit * wall / calls, *(unit * each for each in bounds_s(ns, waited)))
                for ns, wall, waited in zip(1e9 * calls_of, walls, waits_of, strict=True)
            ]
            for calls_of, walls, waits_of in zip(calls_s, wall_s, waited_s, strict=True)
        ]
    return Pair(*(_series(blocks[side], disturbed) for side in CALLS))


def _contention(rng: Generator, neighbour: Neighbour, side: str, shape: tuple[int, int]) -> Floats:
    if neighbour.slows == "either":
        return rng.uniform(1.0, CONTENTION, (shape[0], 1))
    return np.full((shape[0], 1), CONTENTION if neighbour.slows == side else 1.0)


def _waits(rng: Generator, duty: float, work_s: Floats, calls: int) -> Floats:
    """Seconds that each call waits, shape (..., calls): slices that come while it has work to do.

    The scheduler is fair: a neighbour that always wants a core has it half of the time.
    """
    mean_s, share = sum(SLICE_S) / 2, min(duty, FAIR_SHARE)
    count = rng.poisson(
        work_s[..., None] / calls * share / (1 - share) / mean_s, (*work_s.shape, calls)
    )
    longest = int(count.max(initial=0))
    slices = rng.uniform(*SLICE_S, (*count.shape, longest))
    waits: Floats = np.where(np.arange(longest) < count[..., None], slices, 0.0).sum(axis=-1)
    return waits


def _series(
    replicates: Sequence[Sequence[tuple[float, float, float]]], disturbed: NDArray[np.bool_]
) -> Series:
    """The blocks that a run keeps, by the rule of :mod:`optimize.judge.workers.timing`.

    Args:
        replicates: mean, most and least of each block.
        disturbed: whether it was, shape (replicates, blocks).
    """
    kept, lows = [], []
    for blocks, hit in zip(replicates, disturbed, strict=True):
        points = [mean for (mean, _, _), bad in zip(blocks, hit, strict=True) if not bad]
        if 2 * len(points) >= len(blocks):
            kept.append(tuple(points))
            lows.append(tuple(points))
        else:
            chosen = [
                (mean, mean) if not bad else (most, least)
                for (mean, most, least), bad in zip(blocks, hit, strict=True)
            ]
            kept.append(tuple(most for most, _ in chosen))
            lows.append(tuple(least for _, least in chosen))
    return Series(blocks_s=tuple(kept), least_s=tuple(lows), calls=1, p50_ms=None, p95_ms=None)


@dataclass(frozen=True)
class Outcome:
    """Verdicts of one neighbour in one mode, by the true ratio over the limit."""

    name: str
    mode: Mode
    runs: int
    verdicts: dict[float, Counter[Verdict]]

    def unmet(self) -> list[str]:
        """The requirements that do not hold, in words."""
        words = []
        for ratio, counts in self.verdicts.items():
            wrong: Verdict = "pass" if ratio < 1 else "fail"
            if counts[wrong]:
                words.append(f"{counts[wrong]} wrong at {ratio:g} times the limit")
            decided = self.runs - counts["inconclusive"]
            if ratio == RATIOS[-1] and decided < LEAST_DECIDED * self.runs:
                words.append(f"only {decided} decided at {ratio:g} times the limit")
        return words


def simulate(neighbour: Neighbour, mode: Mode, runs: int, seed: int) -> Outcome:
    """Judge so many runs at each true ratio."""
    rng = np.random.default_rng([seed, zlib.crc32(f"{neighbour.name} {mode}".encode())])
    verdicts: dict[float, Counter[Verdict]] = {}
    for ratio in RATIOS:
        verdicts[ratio] = Counter()
        for _ in range(runs):
            pair = run_of(rng, neighbour, ratio * LIMIT, mode)
            found = timing_verdict(*pair, math.log(LIMIT), mode, TIMING_GATES)
            verdicts[ratio][found.verdict] += 1
    return Outcome(neighbour.name, mode, runs, verdicts)


def table_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """A row for each neighbour and mode: pass / fail / undecided at each ratio."""
    head = "".join(f"{f'{ratio:g} of the limit':>20}" for ratio in RATIOS)
    lines = [f"{'pass / fail / undecided':36}{head}"]
    for outcome in outcomes:
        cells = "".join(
            f"{counts['pass']:>9} /{counts['fail']:>4} /{counts['inconclusive']:>4}"
            for counts in outcome.verdicts.values()
        )
        unmet = "; ".join(outcome.unmet()) or "met"
        lines.append(f"{outcome.name:30}{outcome.mode:6}{cells}  {unmet}")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 where a requirement is not met."""
    parser = argparse.ArgumentParser(description="Error rates beside busy neighbours.")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    modes: tuple[Mode, ...] = ("full", "quick")
    outcomes = [
        simulate(neighbour, mode, arguments.runs, arguments.seed)
        for mode in modes
        for neighbour in NEIGHBOURS
    ]
    sys.stdout.write("\n".join(table_lines(outcomes)) + "\n")
    return 1 if any(outcome.unmet() for outcome in outcomes) else 0


if __name__ == "__main__":
    raise SystemExit(main())
