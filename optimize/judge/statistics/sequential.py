"""Paired timing statistics: from blocks to a replicate, from replicates to a verdict.

All quantities are logarithms of t_reference / t_candidate: above zero, the candidate is faster.
A comparison states what must hold and is negated, so that NaN never passes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["pass", "fail", "inconclusive"]
Floats = NDArray[np.float64]

# Replicates after which a verdict may be given.
LOOKS = (12, 24, 48)
# Chance that one wrong verdict is given among all timing gates and looks.
FAMILY_ERROR = 0.01

# Replicate SD (of the log ratio) that the looks are sized for: up to it, 48 replicates tell +10 %
# from a limit of +5 % almost surely.
DESIGN_SD_LOG = 0.044
# A measured SD above this is taken as a true SD above the design's. It has room for chance: at a
# true 4.4 %, one run of 48 replicates in a hundred measures more; at a true 8 %, one in a
# thousand measures less.
NOISE_CAP_LOG = 1.25 * DESIGN_SD_LOG


class Interval(NamedTuple):
    """A closed interval; an unbounded end is infinite."""

    low: float
    high: float

    def widened(self, by: float) -> Interval:
        """The interval with both ends further out."""
        return Interval(self.low - by, self.high + by)

    @property
    def distance_from_zero(self) -> float:
        """How far equal workers may have looked apart, where this is their log ratio.

        Nothing where it holds 0, else its far end; NaN where an end is.
        """
        if math.isnan(self.low) or math.isnan(self.high):
            return math.nan
        return 0.0 if self.low <= 0.0 <= self.high else max(abs(self.low), abs(self.high))


UNBOUNDED = Interval(-math.inf, math.inf)
UNDEFINED = Interval(math.nan, math.nan)


@dataclass(frozen=True)
class SequentialVerdict:
    """What a series of replicates says about a limit.

    Attributes:
        verdict: final if it decides, or if the last look was taken.
        estimate_log: Hodges-Lehmann estimate of log(t_reference / t_candidate).
        interval: the interval that was held against the limit.
        replicates_used: replicates that all other figures rest on.
        look: index of the look that was taken last; None before the first, and where a value is
            not finite.
        level: one-sided error of each end of the interval.
        sd_log: standard deviation of the replicates used; NaN below two.
        noisy: the interval decided, but the replicates scatter too much to trust it.
    """

    verdict: Verdict
    estimate_log: float
    interval: Interval
    replicates_used: int
    look: int | None
    level: float
    sd_log: float
    noisy: bool


def block_log_ratio(reference_s: Sequence[float], candidate_s: Sequence[float]) -> float:
    """One replicate's figure: the median over blocks of log(t_reference / t_candidate).

    Args:
        reference_s: seconds per call, one entry a block.
        candidate_s: the same blocks of the candidate.

    Raises:
        ValueError: no blocks, unequally many, or a time that is not positive and finite.
    """
    if len(reference_s) != len(candidate_s) or not len(reference_s):
        raise ValueError(
            f"blocks are pairs, but the reference has {len(reference_s)} and the candidate "
            f"{len(candidate_s)}; drop a disturbed block for both"
        )
    for role, times_s in (("reference", reference_s), ("candidate", candidate_s)):
        for block, time_s in enumerate(times_s):
            if not (time_s > 0 and math.isfinite(time_s)):
                raise ValueError(
                    f"block {block} of the {role} lasted {time_s} s; times must be positive and "
                    "finite"
                )
    return float(np.median(np.log(np.asarray(reference_s) / np.asarray(candidate_s))))


def walsh_averages(x: Sequence[float]) -> Floats:
    """The sorted n (n + 1) / 2 means of every pair of values, each value with itself included."""
    values = np.asarray(x, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise ValueError(f"needs a flat, non-empty series, not one of shape {values.shape}")
    first, second = np.triu_indices(values.size)
    return np.sort((values[first] + values[second]) / 2)


def hodges_lehmann(x: Sequence[float]) -> float:
    """Median of the Walsh averages; NaN where a value is not finite."""
    return float(np.median(walsh_averages(x))) if np.isfinite(x).all() else math.nan


@lru_cache(maxsize=64)
def signed_rank_tail(n: int) -> Floats:
    """P(W <= w) for w = 0 ... n (n + 1) / 2 under the null of Wilcoxon's signed-rank statistic.

    Rank k joins the sum with probability 1/2. Halving is exact in binary, so the figures are
    exact up to n = 53 and good to 1e-15 beyond.
    """
    probability = np.zeros(n * (n + 1) // 2 + 1)
    probability[0] = 1.0
    for rank in range(1, n + 1):
        joined = np.zeros_like(probability)
        joined[rank:] = probability[:-rank]
        probability = (probability + joined) / 2
    tail = np.cumsum(probability)
    tail.flags.writeable = False  # the cache hands out this very array
    return tail


def signed_rank_interval(x: Sequence[float], level_per_side: float) -> Interval:
    """Exact interval for the centre of symmetry, by inverting the signed-rank test.

    With k the greatest count where P(W <= k) <= level_per_side, the ends are the (k + 1)-th
    Walsh averages from below and above (Hollander & Wolfe, Nonparametric Statistical Methods,
    section 3.3).

    Args:
        x: independent values, symmetric about the centre.
        level_per_side: one-sided error of each end, above 0 and at most 0.5.

    Returns:
        Unbounded where n is too small for the level; both ends NaN where a value is not finite.
    """
    if not 0 < level_per_side <= 0.5:
        raise ValueError(f"the one-sided level must be in (0, 0.5], not {level_per_side}")
    if not np.isfinite(x).all():
        return UNDEFINED
    averages = walsh_averages(x)
    k = int(np.searchsorted(signed_rank_tail(len(x)), level_per_side, side="right")) - 1
    k = min(k, (averages.size - 1) // 2)  # at a level near 0.5 the ends meet, and never cross
    if k < 0:
        return UNBOUNDED
    return Interval(float(averages[k]), float(averages[averages.size - 1 - k]))


def look_level(timing_gates: int, looks: int = len(LOOKS)) -> float:
    """One-sided level of each end at each look: 0.01 shared by the looks and the gates.

    Twelve replicates reach 1/4096 at best, so that the first look can decide for up to 13 gates
    at three looks; with more, it is passed over.
    """
    if timing_gates < 1 or looks < 1:
        raise ValueError(f"needs a gate and a look, not {timing_gates} and {looks}")
    return FAMILY_ERROR / (looks * timing_gates)


def decide(interval: Interval, limit_log: float) -> Verdict:
    """PASS wholly at or above the limit, FAIL wholly below, otherwise inconclusive.

    An end that is infinite, NaN, or on the wrong side of the other decides nothing.
    """
    if interval.low <= interval.high:
        if math.isfinite(interval.low) and interval.low >= limit_log:
            return "pass"
        if math.isfinite(interval.high) and interval.high < limit_log:
            return "fail"
    return "inconclusive"


def is_trusted(interval: Interval, limit_log: float, sd_log: float) -> bool:
    """Whether replicates that scatter this much may decide about this limit.

    In symmetric noise the interval alone gives no more wrong verdicts, but whether it gives any
    becomes a coin toss: at an SD of 8 % it reports a true +10 % in two runs of three. Above the
    SD that the looks are sized for, the whole interval must therefore be more than one SD from
    the limit. Near the limit that never happens; a candidate that is several times faster than
    asked is still judged.
    """
    distance = max(interval.low - limit_log, limit_log - interval.high)
    return sd_log <= NOISE_CAP_LOG or distance > sd_log


def sequential_timing(
    replicate_log_ratios: Sequence[float],
    limit_log: float,
    timing_gates: int,
    looks: Sequence[int] = LOOKS,
    widening_log: float = 0.0,
) -> SequentialVerdict:
    """Take every completed look in turn, and stop at the first that decides.

    Args:
        replicate_log_ratios: `block_log_ratio` of each replicate, in the order measured.
        limit_log: least acceptable log(t_reference / t_candidate).
        timing_gates: how many timing gates share the error.
        looks: numbers of replicates, rising; the shares of the error are equal.
        widening_log: every interval is widened by it on both sides.

    Returns:
        Before the first look, and where any value is not finite, the verdict is inconclusive.
    """
    values = replicate_log_ratios
    return sequential_bounds(values, values, limit_log, timing_gates, looks, widening_log)


def sequential_bounds(
    lows: Sequence[float],
    highs: Sequence[float],
    limit_log: float,
    timing_gates: int,
    looks: Sequence[int] = LOOKS,
    widening_log: float = 0.0,
) -> SequentialVerdict:
    """The same where each replicate's figure is known to lie between two.

    The interval's lower end comes from the lows and its upper end from the highs, so that it covers
    whatever the figures are within their bounds.

    Args:
        lows: the least that each replicate's figure can be.
        highs: the most, equally many.
        limit_log: as for :func:`sequential_timing`.
        timing_gates: likewise.
        looks: likewise.
        widening_log: likewise.
    """
    if not looks or list(looks) != sorted(set(looks)) or looks[0] < 1:
        raise ValueError(f"looks must rise from at least 1, not {tuple(looks)}")
    if len(lows) != len(highs):
        raise ValueError(f"{len(lows)} lower ends do not fit {len(highs)} upper ends")
    level = look_level(timing_gates, len(looks))
    least, most = [float(value) for value in lows], [float(value) for value in highs]
    outcome = _undecided(least, most, level)
    if not np.isfinite([*least, *most, limit_log, widening_log]).all():
        return outcome
    for look, size in enumerate(looks):
        if size > len(least):
            break
        outcome = _look(least[:size], most[:size], limit_log, look, level, widening_log)
        if outcome.verdict != "inconclusive":
            break
    return outcome


def sd_of(series: Sequence[float]) -> float:
    """Sample standard deviation; NaN below two values or where one is not finite."""
    if len(series) < 2 or not np.isfinite(series).all():
        return math.nan
    return float(np.std(series, ddof=1))


def _undecided(lows: Sequence[float], highs: Sequence[float], level: float) -> SequentialVerdict:
    """The outcome where no look can be taken."""
    centres = _centres(lows, highs)
    return SequentialVerdict(
        verdict="inconclusive",
        estimate_log=hodges_lehmann(centres) if centres else math.nan,
        interval=UNBOUNDED if np.isfinite([*lows, *highs]).all() else UNDEFINED,
        replicates_used=len(lows),
        look=None,
        level=level,
        sd_log=sd_of(centres),
        noisy=False,
    )


def _look(
    lows: Sequence[float],
    highs: Sequence[float],
    limit_log: float,
    look: int,
    level: float,
    widening_log: float,
) -> SequentialVerdict:
    """One look at finite values."""
    low = signed_rank_interval(lows, level).low
    high = signed_rank_interval(highs, level).high
    interval = Interval(low, high).widened(widening_log)
    verdict = decide(interval, limit_log)
    sd_log = max(sd_of(lows), sd_of(highs))
    noisy = verdict != "inconclusive" and not is_trusted(interval, limit_log, sd_log)
    return SequentialVerdict(
        verdict="inconclusive" if noisy else verdict,
        estimate_log=hodges_lehmann(_centres(lows, highs)),
        interval=interval,
        replicates_used=len(lows),
        look=look,
        level=level,
        sd_log=sd_log,
        noisy=noisy,
    )


def _centres(lows: Sequence[float], highs: Sequence[float]) -> list[float]:
    return [(low + high) / 2 for low, high in zip(lows, highs, strict=True)]


def percentile_interval(samples: Sequence[float], level: float = 0.95) -> Interval:
    """The central share of the samples: wider than an interval of their centre.

    Quick mode decides by it, with the ratios of all blocks as samples.
    """
    if not 0 < level < 1:
        raise ValueError(f"the level must be in (0, 1), not {level}")
    if not len(samples):
        raise ValueError("needs at least one sample")
    low, high = np.quantile(
        np.asarray(samples, dtype=np.float64), [(1 - level) / 2, (1 + level) / 2]
    )
    return Interval(float(low), float(high))
