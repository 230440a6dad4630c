"""Error rates of the timing gates, shown on simulated noise.

    python -m optimize.experiments.timing_simulation [--runs 1000] [--seed 0]

The gate allows the candidate to be at most 5 % slower than the reference, and is one of eight.
Each noise model is run with a candidate that is as fast as the reference, and with one that takes
10 % more time, beside an A/A control in the same noise; the very functions that judge real runs
judge these. Exits 1 where a requirement is not met.
"""

from __future__ import annotations

import argparse
import math
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from optimize.judge.statistics.sequential import (
    DESIGN_SD_LOG,
    LOOKS,
    Floats,
    Verdict,
    sequential_timing,
)

Bools = NDArray[np.bool_]

BLOCKS = 24
CALLS = 10  # in a block, whose element is their mean
CALL_S = 0.002
TIMING_GATES = 8
LIMIT_LOG = math.log(1 / 1.05)
SLOWDOWN = 1.10

MAX_WRONG = 0.004
MIN_DETECTED = 0.962
MAX_INCONCLUSIVE = 0.05
# From this replicate SD on, a run must not decide. Between the design's SD and this one a measured
# SD cannot tell on which side the true one is, and only wrong verdicts are limited.
BEYOND_SD_LOG = 0.08
MIN_INCONCLUSIVE_BEYOND = 0.95

# Turns the undisturbed seconds per call of blocks in the order of time, shape (..., blocks), into
# measured ones.
BlockNoise = Callable[[Generator, Floats], Floats]
# Adds to the seconds of each block, likewise, those that it stood still.
StallNoise = Callable[[Generator, Floats], Floats]
# Draws the factors of worker processes, of the shape given.
WorkerNoise = Callable[[Generator, tuple[int, ...]], Floats]


def lognormal(rng: Generator, call_s: Floats, sd: float = 0.03) -> Floats:
    """Scatter that the calls of a block share: the mean of many calls does not lessen it."""
    return call_s * np.exp(sd * rng.standard_normal(call_s.shape))


def autoregressive(rng: Generator, call_s: Floats, sd: float = 0.05, rho: float = 0.9) -> Floats:
    """AR(1) scatter: a slow block follows a slow block."""
    shocks = rng.standard_normal(call_s.shape)
    state = np.empty_like(shocks)
    state[..., 0] = shocks[..., 0]
    for slot in range(1, shocks.shape[-1]):
        state[..., slot] = rho * state[..., slot - 1] + math.sqrt(1 - rho**2) * shocks[..., slot]
    return call_s * np.exp(sd * state)


def ramp(rng: Generator, call_s: Floats, rise: float = 0.2) -> Floats:
    """The machine slows down, or recovers, by up to a fifth over the replicate."""
    slope = rng.uniform(-rise, rise, (*call_s.shape[:-1], 1))
    return lognormal(rng, call_s * np.exp(slope * np.linspace(0, 1, call_s.shape[-1])))


def bimodal(rng: Generator, call_s: Floats, factor: float = 1.3, share: float = 0.3) -> Floats:
    """Some blocks run in a slow mode, such as a lower clock."""
    return lognormal(rng, call_s * np.where(rng.random(call_s.shape) < share, factor, 1.0))


def pareto_spikes(
    rng: Generator, call_s: Floats, share: float = 0.02, shape: float = 1.5
) -> Floats:
    """Single calls are held up, for times of infinite variance."""
    spikes = np.zeros_like(call_s)
    for _ in range(CALLS):
        spikes += (rng.random(call_s.shape) < share) * (1 + rng.pareto(shape, call_s.shape))
    return lognormal(rng, call_s * (1 + spikes / CALLS))


def order_effect(rng: Generator, call_s: Floats, factor: float = 1.05) -> Floats:
    """The variant that comes second in a block finds the machine warmer, and is slower."""
    second = np.arange(call_s.shape[-1]) % 2 == 1
    return lognormal(rng, call_s * np.where(second, factor, 1.0))


def quantised(rng: Generator, call_s: Floats, tick_s: float = 0.001) -> Floats:
    """A timer that only counts whole ticks, read before and after the block.

    A block should last 20 ticks: with 7 or fewer, +10 % is often no tick at all.
    """
    start_s = rng.uniform(0, tick_s, call_s.shape)
    end_s = start_s + CALLS * lognormal(rng, call_s)
    return np.floor(end_s / tick_s) * tick_s / CALLS


def offset_workers(rng: Generator, shape: tuple[int, ...], sd: float = 0.0) -> Floats:
    """Processes differ, by where their memory happened to be placed, and stay so."""
    return np.exp(sd * rng.standard_normal(shape))


def bimodal_workers(
    rng: Generator, shape: tuple[int, ...], factor: float = 1.3, share: float = 0.5
) -> Floats:
    """Some processes are slow as long as they live."""
    return np.where(rng.random(shape) < share, factor, 1.0)


def throttling(
    rng: Generator, block_s: Floats, quota: float = 0.9, period_s: float = 0.1
) -> Floats:
    """A container that has used up its share of 100 ms stands still until they are over."""
    allowed_s = quota * period_s
    start_s = rng.uniform(0, allowed_s, (*block_s.shape[:-1], 1))
    end_s = start_s + np.cumsum(block_s, axis=-1)
    stalls = np.floor(end_s / allowed_s) - np.floor((end_s - block_s) / allowed_s)
    return stalls * (period_s - allowed_s)


@dataclass(frozen=True)
class NoiseModel:
    """How blocks are disturbed, how processes differ, and what holds them up.

    Attributes:
        name: of the row.
        blocks: noise that nobody notices.
        workers: differences between processes.
        stalls: noise that the machine reports: its blocks are dropped for both variants, and
            taken again until twice as many as needed were taken.
    """

    name: str
    blocks: BlockNoise = lognormal
    workers: WorkerNoise = offset_workers
    stalls: StallNoise | None = None


def offsets_of(replicate_sd: float) -> WorkerNoise:
    """Offsets of two workers whose log ratio has this SD."""
    return partial(offset_workers, sd=replicate_sd / math.sqrt(2))


MODELS = (
    NoiseModel("lognormal 3 %"),
    NoiseModel("lognormal 10 %", partial(lognormal, sd=0.10)),
    NoiseModel("AR(1) 5 %, rho 0.9", autoregressive),
    NoiseModel("ramps up to 20 %", ramp),
    NoiseModel("bimodal x1.3", bimodal),
    NoiseModel("Pareto spikes", pareto_spikes),
    NoiseModel("throttled, quota 90 %", stalls=throttling),
    NoiseModel("throttled, quota 50 %", stalls=partial(throttling, quota=0.5)),
    NoiseModel("throttled, quota 30 %", stalls=partial(throttling, quota=0.3)),
    NoiseModel("order effect 5 %", order_effect),
    NoiseModel("timer of 1 ms", quantised),
    NoiseModel("replicate offsets 4.2 %", workers=offsets_of(0.042)),
    NoiseModel("replicate offsets 6 %", workers=offsets_of(0.06)),
    NoiseModel("replicate offsets 8 %", workers=offsets_of(0.08)),
    NoiseModel("replicate offsets 15 %", workers=offsets_of(0.15)),
    NoiseModel("bimodal processes x1.3", workers=bimodal_workers),
    NoiseModel("lognormal 25 %", partial(lognormal, sd=0.25)),
)


def replicate_log_ratios(
    rng: Generator, model: NoiseModel, slowdown: float, shape: tuple[int, ...]
) -> Floats:
    """Simulated replicates: what `block_log_ratio` makes of their blocks.

    Args:
        rng: source of all chance.
        model: noise.
        slowdown: true t_candidate / t_reference.
        shape: of the result, (runs, replicates).
    """
    taken = BLOCKS if model.stalls is None else 2 * BLOCKS
    is_candidate = balanced_orders(rng, (*shape, taken))
    worker_s = CALL_S * model.workers(rng, (*shape, 2)) * np.array([1.0, slowdown])
    call_s = np.where(is_candidate, worker_s[..., None, None, 1], worker_s[..., None, None, 0])
    block_s = CALLS * model.blocks(rng, call_s.reshape(*shape, -1))
    stalls_s = np.zeros_like(block_s) if model.stalls is None else model.stalls(rng, block_s)
    first, second = np.moveaxis(np.log(block_s + stalls_s).reshape(call_s.shape), -1, 0)
    ratios: Floats = np.where(is_candidate[..., 0], second - first, first - second)
    clean: Bools = np.all(stalls_s.reshape(call_s.shape) == 0, axis=-1)
    return median_of_kept(ratios, clean & (np.cumsum(clean, axis=-1) <= BLOCKS))


def median_of_kept(ratios: Floats, kept: Bools) -> Floats:
    """Median over the blocks kept; NaN where none is."""
    rising = np.sort(np.where(kept, ratios, np.nan), axis=-1)  # sorts NaN to the end
    count = kept.sum(axis=-1, keepdims=True)
    # Without blocks the places are -1 and 0, where NaN stands.
    places = np.concatenate([(count - 1) // 2, count // 2], axis=-1)
    middle: Floats = np.take_along_axis(rising, places, axis=-1).mean(axis=-1)
    return middle


def balanced_orders(rng: Generator, shape: tuple[int, ...]) -> Bools:
    """Whether the candidate is at a block's first and second place; two blocks are ABBA or BAAB."""
    first = rng.random((*shape[:-1], shape[-1] // 2, 1)) < 0.5
    first = np.concatenate([first, ~first], axis=-1).reshape(*shape, 1)
    return np.concatenate([first, ~first], axis=-1)


@dataclass(frozen=True)
class ModelResult:
    """Shares of verdicts under one noise model, and the replicate SD; NaN without clean blocks."""

    name: str
    sd_log: float
    unchanged: dict[Verdict, float]
    slower: dict[Verdict, float]

    def unmet(self) -> list[str]:
        """The requirements that do not hold, in words."""
        wrong = {
            "false failures": self.unchanged["fail"],
            "passes of +10 %": self.slower["pass"],
        }
        words = [f"{what} {share:.1%}" for what, share in wrong.items() if not share <= MAX_WRONG]
        least_inconclusive = min(self.unchanged["inconclusive"], self.slower["inconclusive"])
        most_inconclusive = max(self.unchanged["inconclusive"], self.slower["inconclusive"])
        if self.sd_log <= DESIGN_SD_LOG:
            if not self.slower["fail"] >= MIN_DETECTED:
                words.append(f"only {self.slower['fail']:.1%} of +10 % detected")
            if not most_inconclusive < MAX_INCONCLUSIVE:
                words.append(f"{most_inconclusive:.1%} inconclusive")
        elif not self.sd_log < BEYOND_SD_LOG and not least_inconclusive >= MIN_INCONCLUSIVE_BEYOND:
            words.append(f"only {least_inconclusive:.1%} inconclusive in such noise")
        return words


def simulate(model: NoiseModel, runs: int, seed: int) -> ModelResult:
    """Judge `runs` runs without a change and as many at +10 %."""
    # Seeded by name, so that a model's row does not depend on the rows above it.
    rng = np.random.default_rng([seed, zlib.crc32(model.name.encode())])
    shape = (runs, LOOKS[-1])
    unchanged = replicate_log_ratios(rng, model, 1.0, shape)
    slower = replicate_log_ratios(rng, model, SLOWDOWN, shape)
    control = replicate_log_ratios(rng, model, 1.0, shape)
    widenings = [
        sequential_timing(run, 0.0, TIMING_GATES).interval.distance_from_zero for run in control
    ]
    return ModelResult(
        name=model.name,
        sd_log=float(unchanged.std()),
        unchanged=verdict_shares(unchanged, widenings),
        slower=verdict_shares(slower, widenings),
    )


def verdict_shares(log_ratios: Floats, widenings: Sequence[float]) -> dict[Verdict, float]:
    """Share of each verdict among runs, the rows, each widened by its control."""
    counts = Counter(
        sequential_timing(run, LIMIT_LOG, TIMING_GATES, widening_log=widening).verdict
        for run, widening in zip(log_ratios, widenings, strict=True)
    )
    verdicts: tuple[Verdict, ...] = ("pass", "fail", "inconclusive")
    return {verdict: counts[verdict] / len(log_ratios) for verdict in verdicts}


def table_lines(results: Sequence[ModelResult], runs: int) -> list[str]:
    """The table, a row for each model, in numbers of runs."""
    lines = [
        f"Verdicts in {runs} runs without a change, and in {runs} with +10 % time",
        f"{'':25}{'replicate':>9}  {'no change':^20}  {'+10 % time':^20}",
        f"{'noise':25}{'SD':>9}" + 2 * f"  {'pass':>6}{'fail':>6}{'incl.':>8}",
    ]
    for result in results:
        cells = "".join(
            f"  {shares['pass'] * runs:6.0f}{shares['fail'] * runs:6.0f}"
            f"{shares['inconclusive'] * runs:8.0f}"
            for shares in (result.unchanged, result.slower)
        )
        unmet = "; ".join(result.unmet())
        lines.append(f"{result.name:25}{result.sd_log:9.1%}{cells}  {unmet or 'met'}")
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 where a requirement is not met."""
    parser = argparse.ArgumentParser(description="Error rates of the timing gates.")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    results = [simulate(model, arguments.runs, arguments.seed) for model in MODELS]
    sys.stdout.write("\n".join(table_lines(results, arguments.runs)) + "\n")
    return 1 if any(result.unmet() for result in results) else 0


if __name__ == "__main__":
    raise SystemExit(main())
