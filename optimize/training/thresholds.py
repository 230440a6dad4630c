"""The threshold above which a label is given, where a text may have several."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimize.bundle.manifest import DEFAULT_THRESHOLD

Ids = NDArray[np.int64]


def best_threshold(scores: NDArray[Any], has: Ids, nothing: float = DEFAULT_THRESHOLD) -> float:
    """The threshold above which giving the label has the best F1: midway between two scores.

    Args:
        scores: probabilities or logits, shape (texts,).
        has: 1 where the label is right, else 0; the same shape.
        nothing: what to return where no text has it.
    """
    if not has.any():
        return nothing
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    hits = np.cumsum(has[order])
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + has.sum())
    # Equal probabilities are given the label together.
    last_of_equals = np.append(ranked[1:] != ranked[:-1], True)
    best = int(np.argmax(np.where(last_of_equals, f1, -1.0)))
    if best + 1 < len(ranked):
        return float((float(ranked[best]) + float(ranked[best + 1])) / 2)
    # All are given it: below the least by as much as leaves a probability what it is.
    return float(ranked[best]) - abs(float(ranked[best])) / 2
