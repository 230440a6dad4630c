"""What gates are decided on, and the two decisions on times that every rule shares."""

from __future__ import annotations

import math

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
    sequential_timing,
)

# Share of block ratios that must agree in quick mode. Of the two dozen that it takes, a stolen
# time slice spoils one or two, and one more on either side would decide nothing.
QUICK_SHARE = 0.80
# Undisturbed blocks that quick mode needs to say anything: a third of the two dozen.
LEAST_QUICK_BLOCKS = 8


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
    replicates = replicate_log_ratios(reference, candidate)
    if mode == "full":
        return sequential_timing(replicates, limit, shared, widening_log=widening)
    pairs = zip(reference.blocks_s, candidate.blocks_s, strict=True)
    ratios = [math.log(t / c) for pair in pairs for t, c in zip(*pair, strict=True)]
    enough = len(ratios) >= LEAST_QUICK_BLOCKS
    interval = percentile_interval(ratios, QUICK_SHARE).widened(widening) if enough else UNDEFINED
    return SequentialVerdict(
        verdict=decide(interval, limit),
        estimate_log=float(np.median(ratios)) if ratios else math.nan,
        interval=interval,
        replicates_used=len(replicates),
        look=None,
        level=(1 - QUICK_SHARE) / 2,
        sd_log=sd_of(replicates),
        noisy=False,
    )


def replicate_log_ratios(reference: Series, candidate: Series) -> list[float]:
    """Each replicate's figure; NaN for one in which every block was disturbed."""
    return [
        block_log_ratio(*pair) if pair[0] else math.nan
        for pair in zip(reference.blocks_s, candidate.blocks_s, strict=True)
    ]


def ratio_span(interval: Interval) -> Span:
    """An interval of log ratios as one of ratios."""
    low, high = (math.exp(end) if math.isfinite(end) else None for end in interval)
    return Span(low=low, high=high)


def brackets(span: Span, digits: int = 2, *, signed: bool = False) -> str:
    """An interval as tables show it."""
    form = f"{'+' if signed else ''}.{digits}f"
    low, high = ("…" if end is None else f"{end:{form}}" for end in (span.low, span.high))
    return f"[{low}, {high}]"
