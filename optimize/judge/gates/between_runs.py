"""How far two runs of the same models differ, from several runs that a baseline keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from optimize.judge.gates.control import replicate_bounds
from optimize.judge.records import Timing
from optimize.judge.statistics.sequential import UNDEFINED, Interval

ONE_RUN = (
    "; the baseline is one run, so what runs differ by is not in the interval: "
    "`optimize baseline save --runs 5`"
)


class Spread(NamedTuple):
    """What several runs say of one workload's log ratio.

    Attributes:
        mean: of the runs.
        half_width: what one more run may be off the mean by.
    """

    mean: float
    half_width: float

    def change(self, now: Interval) -> Interval:
        """Interval of a run's log ratio, given its own, less the mean of the runs before."""
        if not math.isfinite(self.half_width):
            return UNDEFINED
        return Interval(now.low - self.mean, now.high - self.mean).widened(self.half_width)


def spread_of(
    runs: Sequence[Timing], workload: str, reference: str, candidate: str, level: float
) -> Spread:
    """The prediction interval for one more run, half of its width.

    t · s · √(1 + 1/k) for k runs (Hahn & Meeker, Statistical Intervals, section 4.7). Five runs
    have four degrees of freedom, and t would be above 8. So s is pooled over all workloads, as
    many times the degrees; but never below the workload's own.

    Args:
        runs: two or more.
        workload: the one that is asked for.
        reference: the variant that the candidate's times are held against, of unchanged weights.
        candidate: the variant.
        level: one-sided error of each end.
    """
    shared = set.intersection(*(set(run.series) for run in runs))
    ratios = {
        name: [_log_ratio(run, name, reference, candidate) for run in runs] for name in shared
    }
    known = [values for values in ratios.values() if np.isfinite(values).all()]
    own = ratios[workload]
    if not np.isfinite(own).all():
        return Spread(math.nan, math.nan)
    from scipy.stats import t  # takes a second to import, and most runs need none of it

    count = len(runs)
    pooled = math.sqrt(float(np.mean([np.var(values, ddof=1) for values in known])))
    spread = max(pooled, float(np.std(own, ddof=1)))
    quantile = float(t.isf(level, len(known) * (count - 1)))
    return Spread(float(np.mean(own)), quantile * spread * math.sqrt(1 + 1 / count))


def _log_ratio(run: Timing, workload: str, reference: str, candidate: str) -> float:
    series = run.series[workload]
    if reference not in series or candidate not in series:
        return math.nan
    centres = replicate_bounds(series[reference], series[candidate]).centres
    return float(np.median(centres)) if centres else math.nan
