"""Micro and macro F1 where a text may have several labels, alone and paired."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from optimize.judge.statistics.proportions import BOOTSTRAP_RESAMPLES
from optimize.judge.statistics.sequential import Interval

Has = NDArray[np.bool_]
# Samples that are in memory at once.
TOGETHER = 100
Counts = NDArray[np.int64]


class F1Drop(NamedTuple):
    """Micro F1 of a reference less that of a candidate.

    Attributes:
        drop: as a share.
        interval: of it.
        differing: texts on which the two are not equally right.
        examples: n.
        labelled: those that have a label, or were given one: F1 is of these alone.
    """

    drop: float
    interval: Interval
    differing: int
    examples: int
    labelled: int


def micro_f1(truth: Has, answers: Has) -> float:
    """F1 over all labels of all texts together: 2 TP / (2 TP + FP + FN).

    Args:
        truth: whether each text has each label, shape (texts, labels).
        answers: whether it was given it; the same shape.

    Returns:
        1 where no text has a label and none was given.
    """
    return float(_of_sums(_hits_and_times(truth, answers).sum(axis=0)))


def macro_f1_of_sets(truth: Has, answers: Has) -> float:
    """Mean F1 over the labels that a text has or is given; 1 where there are none."""
    hits = (truth & answers).sum(axis=0)
    times = truth.sum(axis=0) + answers.sum(axis=0)
    there = times > 0
    return float((2 * hits[there] / times[there]).mean()) if there.any() else 1.0


def micro_f1_interval(truth: Has, answers: Has, level: float = 0.95, seed: int = 0) -> Interval:
    """BCa bootstrap interval for :func:`micro_f1`; texts are drawn."""
    counts = _hits_and_times(truth, answers)
    estimate = float(_of_sums(counts.sum(axis=0)))
    if estimate in (0.0, 1.0):
        return Interval(estimate, estimate)
    return _bca(counts, _of_sums, level, seed)


def macro_f1_sets_interval(
    truth: Has, answers: Has, level: float = 0.95, seed: int = 0
) -> Interval:
    """BCa bootstrap interval for :func:`macro_f1_of_sets`; texts are drawn."""
    estimate = macro_f1_of_sets(truth, answers)
    if estimate in (0.0, 1.0):
        return Interval(estimate, estimate)
    both = np.concatenate([truth & answers, truth.astype(np.int64) + answers], axis=1)
    labels = truth.shape[1]

    def of_sums(sums: NDArray[Any]) -> NDArray[np.float64]:
        hits, times = sums[..., :labels], sums[..., labels:]
        each = np.divide(2 * hits, times, out=np.zeros(times.shape), where=times > 0)
        return np.asarray(each.sum(axis=-1) / np.maximum(1, (times > 0).sum(axis=-1)))

    return _bca(both.astype(np.int64), of_sums, level, seed)


def paired_drop(
    truth: Has, reference: Has, candidate: Has, level: float = 0.90, seed: int = 0
) -> F1Drop:
    """Drop of micro F1, with the BCa bootstrap interval of the paired difference.

    Texts are drawn, each with both answers (Efron 1987, "Better Bootstrap Confidence Intervals").

    Args:
        truth: whether each text has each label, shape (texts, labels).
        reference: whether the reference gives it; the same shape.
        candidate: whether the candidate does.
        level: of the two-sided interval.
        seed: of the samples.
    """
    theirs, ours = _hits_and_times(truth, reference), _hits_and_times(truth, candidate)
    drop = float(_of_sums(theirs.sum(axis=0)) - _of_sums(ours.sum(axis=0)))
    differing = int((theirs != ours).any(axis=1).sum())
    found = Interval(drop, drop)
    if differing:

        def of_both(sums: NDArray[Any]) -> NDArray[np.float64]:
            return _of_sums(sums[..., :2]) - _of_sums(sums[..., 2:])

        found = _bca(np.concatenate([theirs, ours], axis=1), of_both, level, seed)
    labelled = int((truth | reference | candidate).any(axis=1).sum())
    return F1Drop(drop, found, differing, len(truth), labelled)


def _hits_and_times(truth: Has, answers: Has) -> Counts:
    """Of each text: labels that are right and given, and times that one is right or given."""
    hits = (truth & answers).sum(axis=1)
    times = truth.sum(axis=1) + answers.sum(axis=1)
    return np.stack([hits, times], axis=1).astype(np.int64)


def _of_sums(sums: NDArray[Any]) -> NDArray[np.float64]:
    """Micro F1 of (hits, times); 1 where there is nothing to give."""
    hits, times = sums[..., 0], sums[..., 1]
    f1: NDArray[np.float64] = np.divide(2 * hits, times, out=np.ones(times.shape), where=times > 0)
    return f1


def _bca(
    counts: Counts, of_sums: Callable[[NDArray[Any]], NDArray[np.float64]], level: float, seed: int
) -> Interval:
    """Bias-corrected and accelerated bootstrap interval of a function of the counts' sums.

    Efron 1987, "Better Bootstrap Confidence Intervals", equations 2.3, 4.4 and 6.5. scipy's own
    takes samples of rows, which for many labels are gigabytes; here a sample is how often each row
    is drawn, and leaving one row out is a subtraction. Where every sample gives the same value,
    both ends are that value.

    Args:
        counts: shape (texts, figures); texts are drawn.
        of_sums: of the figures' sums, along the last axis.
        level: of the two-sided interval.
        seed: of the samples.
    """
    from scipy.special import ndtr, ndtri

    rng, size = np.random.default_rng(seed), len(counts)
    figures = counts.astype(np.float64)
    total = figures.sum(axis=0)
    estimate = float(of_sums(total))
    drawn = []
    for start in range(0, BOOTSTRAP_RESAMPLES, TOGETHER):
        rows = min(TOGETHER, BOOTSTRAP_RESAMPLES - start)
        times = rng.multinomial(size, np.full(size, 1 / size), size=rows)
        drawn.append(of_sums(times @ figures))
    samples = np.concatenate(drawn)
    below = (np.sum(samples < estimate) + np.sum(samples <= estimate)) / (2 * len(samples))
    without = of_sums(total - figures)
    away = without.mean() - without
    spread = float((away**2).sum())
    if not 0 < below < 1 or spread == 0:
        return Interval(float(samples.min()), float(samples.max()))
    bias = float(ndtri(below))
    skew = float((away**3).sum()) / (6 * spread**1.5)
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        shifted = bias + float(ndtri(tail))
        ends.append(float(ndtr(bias + shifted / (1 - skew * shifted))))
    low, high = np.quantile(samples, ends)
    return Interval(float(low), float(high))
