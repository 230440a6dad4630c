"""Folds of the training texts, for teachers that do not score what they learned from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from optimize.data.splits import Split


def fold_rows(examples: int, fold: int, folds: int) -> NDArray[np.int64]:
    """Rows of one fold: every ``folds``-th of a fixed random order."""
    order = np.random.default_rng(0).permutation(examples)
    return np.sort(order[fold::folds])


def without_fold(split: Split, fold: int, folds: int) -> Split:
    """The other folds' examples."""
    left_out = set(fold_rows(len(split), fold, folds).tolist())
    kept = [row for row in range(len(split)) if row not in left_out]
    return Split(tuple(split.texts[row] for row in kept), split.labels[kept])
