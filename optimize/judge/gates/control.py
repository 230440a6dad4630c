"""What gates are decided on, and the two decisions on times that every rule shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optimize.judge.records import Control, Mode, Series, Span
from optimize.judge.statistics.sequential import (
    UNDEFINED,
    Interval,
    SequentialVerdict,
    block_log_ratio,
    decide,
    percentile_interval,
    sd_of,
    sequential_bounds,
)

# Share of block ratios that must agree in quick mode. Of the two dozen that it takes, a stolen
# time slice spoils one or two, and one more on either side would decide nothing.
QUICK_SHARE = 0.80
# Undisturbed blocks that quick mode needs to say anything: a third of the two dozen.
LEAST_QUICK_BLOCKS = 8
# Caches, sibling hyperthreads and clock rates are shared too and stand in no account: where blocks
# were disturbed or neighbours wanted the cores, an interval is widened by as much on both sides.
CONTENTION_LOG = math.log(1.25)


def control_of(
    workload: str, reference: Series, candidate: Series, mode: Mode, shared: int
) -> Control:
    """The A/A control: holds when the interval of the ratio includes 1."""
    outcome = timing_verdict(reference, candidate, 0.0, mode, shared)
    low, high = outcome.interval
    return Control(
        workload=workload,
        ratio=math.exp(outcome.estimate_log) if math.isfinite(outcome.estimate_log) else 0.0,
        interval=ratio_span(outcome.interval),
        holds=low <= 0.0 <= high,
    )


def widening_of(control: Control | None) -> float:
    """How far off the ratios of a run may be, as a log: what every interval is widened by.

    Nothing where the A/A control holds. Where it does not, equal workers looked unequal, by up to
    the far end of its interval, and any other two are taken to be off by as much. NaN where there
    is no control, or it has no interval: then no time decides.
    """
    if control is None:
        return math.nan
    if control.holds:
        return 0.0
    ends = (control.interval.low, control.interval.high)
    return Interval(*(math.log(end) if end else math.nan for end in ends)).distance_from_zero


def no_control_words(control: Control | None, run: str = "") -> str:
    """Why no time decides where :func:`widening_of` is NaN, else nothing; ``run`` says in which."""
    if control is None:
        return f"{run}the A/A control was not measured: no time decides"
    if math.isnan(widening_of(control)):
        return (
            f"{run}too few blocks were left undisturbed for the A/A control: others held the cores"
        )
    return ""


def widening_words(control: Control | None, run: str = "") -> str:
    """What a control that is off did to an interval, as the end of a verdict's reason."""
    if control is None or control.holds or math.isnan(widening_of(control)):
        return ""
    return (
        f"; {run}the A/A control gave {control.ratio:.3f}× where equal workers must give 1, and "
        "the interval is wider by as much"
    )


def timing_verdict(
    reference: Series,
    candidate: Series,
    limit: float,
    mode: Mode,
    shared: int,
    widening: float = 0.0,
) -> SequentialVerdict:
    """The decision on one pair of series.

    Args:
        reference: its times.
        candidate: the same blocks of the candidate.
        limit: log of the least ratio t_reference / t_candidate.
        mode: full mode decides by the sequential looks; quick mode by the central 80 % of the
            ratios of all blocks, which is wider than an interval of their centre.
        shared: timing gates among which the error rate is split.
        widening: log that the interval is widened by, see :func:`widening_of`.
    """
    bounds = replicate_bounds(reference, candidate)
    widening += bounds.contention_log
    if mode == "full":
        return sequential_bounds(bounds.lows, bounds.highs, limit, shared, widening_log=widening)
    estimate, interval = _quick_figures(reference, candidate, bounds)
    interval = interval.widened(widening)
    return SequentialVerdict(
        verdict=decide(interval, limit),
        estimate_log=estimate,
        interval=interval,
        replicates_used=len(bounds.lows),
        look=None,
        level=(1 - QUICK_SHARE) / 2,
        sd_log=sd_of(bounds.centres),
        noisy=False,
    )


def _quick_figures(reference: Series, candidate: Series, bounds: Bounds) -> tuple[float, Interval]:
    """Quick mode's estimate and interval: of all blocks, or of the replicates where disturbed."""
    if bounds.disturbed:
        return float(np.median(bounds.centres)), Interval(min(bounds.lows), max(bounds.highs))
    ratios = [
        math.log(theirs / ours)
        for pair in zip(reference.blocks_s, candidate.blocks_s, strict=True)
        for theirs, ours in zip(*pair, strict=True)
    ]
    estimate = float(np.median(ratios)) if ratios else math.nan
    enough = len(ratios) >= LEAST_QUICK_BLOCKS
    return estimate, percentile_interval(ratios, QUICK_SHARE) if enough else UNDEFINED


@dataclass(frozen=True)
class Bounds:
    """Between which log ratios each replicate's undisturbed figure lies.

    Attributes:
        lows: the least, a replicate each.
        highs: the most; equal to the least where nothing was disturbed.
        beside_neighbours: whether others wanted the same cores.
    """

    lows: tuple[float, ...]
    highs: tuple[float, ...]
    beside_neighbours: bool = False

    @property
    def disturbed(self) -> bool:
        """Whether a block was."""
        return self.lows != self.highs

    @property
    def contention_log(self) -> float:
        """What an interval is widened by for all that is shared with others and not counted."""
        return CONTENTION_LOG if self.disturbed or self.beside_neighbours else 0.0

    @property
    def centres(self) -> list[float]:
        """Midway between the two."""
        return [(low + high) / 2 for low, high in zip(self.lows, self.highs, strict=True)]


def replicate_bounds(reference: Series, candidate: Series) -> Bounds:
    """Each replicate's figure, or where its blocks were disturbed, what it must lie between.

    A neighbour only ever adds time. So the ratio is least where all waits are taken off the
    reference and none off the candidate, and most the other way round. That holds for the median of
    the blocks, of both sides, so that their scatter cancels. A replicate without blocks has no
    figure.
    """
    lows, highs = [], []
    for theirs, their_lows, ours, our_lows in zip(
        reference.blocks_s, reference.lows_s, candidate.blocks_s, candidate.lows_s, strict=True
    ):
        if not theirs:
            continue
        if (theirs, ours) == (their_lows, our_lows):
            figure = block_log_ratio(theirs, ours)
            lows.append(figure)
            highs.append(figure)
        else:
            lows.append(_median_log(their_lows) - _median_log(ours))
            highs.append(_median_log(theirs) - _median_log(our_lows))
    beside = reference.beside_neighbours or candidate.beside_neighbours
    return Bounds(tuple(lows), tuple(highs), beside)


def _median_log(times_s: Sequence[float]) -> float:
    return float(np.median(np.log(times_s)))


def ratio_span(interval: Interval) -> Span:
    """An interval of log ratios as one of ratios."""
    low, high = (math.exp(end) if math.isfinite(end) else None for end in interval)
    return Span(low=low, high=high)


def brackets(span: Span, digits: int = 2, *, signed: bool = False) -> str:
    """An interval as tables show it."""
    form = f"{'+' if signed else ''}.{digits}f"
    low, high = ("…" if end is None else f"{end:{form}}" for end in (span.low, span.high))
    return f"[{low}, {high}]"
