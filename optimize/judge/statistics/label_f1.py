"""Micro and macro F1 where a text may have several labels, alone and paired."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from optimize.judge.statistics.proportions import BOOTSTRAP_RESAMPLES
from optimize.judge.statistics.sequential import Interval

Has = NDArray[np.bool_]
Counts = NDArray[np.int64]


class F1Drop(NamedTuple):
    """Micro F1 of a reference less that of a candidate.

    Attributes:
        drop: as a share.
        interval: of it.
        differing: texts that the two give other labels.
        examples: n.
    """

    drop: float
    interval: Interval
    differing: int
    examples: int


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

    def of_sums(sums: Counts) -> NDArray[np.float64]:
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
    differing = int((reference != candidate).any(axis=1).sum())
    found = Interval(drop, drop)
    if differing:

        def of_both(sums: Counts) -> NDArray[np.float64]:
            return _of_sums(sums[..., :2]) - _of_sums(sums[..., 2:])

        found = _bca(np.concatenate([theirs, ours], axis=1), of_both, level, seed)
    return F1Drop(drop, found, differing, len(truth))


def _hits_and_times(truth: Has, answers: Has) -> Counts:
    """Of each text: labels that are right and given, and times that one is right or given."""
    hits = (truth & answers).sum(axis=1)
    times = truth.sum(axis=1) + answers.sum(axis=1)
    return np.stack([hits, times], axis=1).astype(np.int64)


def _of_sums(sums: Counts) -> NDArray[np.float64]:
    """Micro F1 of (hits, times); 1 where there is nothing to give."""
    hits, times = sums[..., 0], sums[..., 1]
    return np.divide(2 * hits, times, out=np.ones(times.shape), where=times > 0)


def _bca(
    counts: Counts, of_sums: Callable[[Counts], NDArray[np.float64]], level: float, seed: int
) -> Interval:
    """Interval of a function of the counts' sums over texts.

    scipy's own, over rows; where every sample gives the same value it is not defined, and both ends
    are that value.
    """
    from scipy.stats import DegenerateDataWarning, bootstrap

    rows = np.arange(len(counts))

    def statistic(drawn: Counts, axis: int) -> NDArray[np.float64]:
        return of_sums(counts[np.moveaxis(drawn, axis, -1)].sum(axis=-2))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)
        ends = bootstrap(
            (rows,),
            statistic,
            n_resamples=BOOTSTRAP_RESAMPLES,
            batch=64,  # bounds the memory: batch * examples * columns
            confidence_level=level,
            method="BCa",
            random_state=seed,
        ).confidence_interval
    if np.isnan([ends.low, ends.high]).any():
        value = float(of_sums(counts.sum(axis=0)))
        return Interval(value, value)
    return Interval(float(ends.low), float(ends.high))
