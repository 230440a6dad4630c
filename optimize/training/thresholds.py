"""The threshold above which a label is given, where a text may have several."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimize.bundle.manifest import DEFAULT_THRESHOLD

Ids = NDArray[np.int64]
# Texts that must have a label for a threshold of its own; of fewer, the best one is chance.
LEAST_POSITIVES = 20


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


def fitted_thresholds(probabilities: NDArray[Any], labels: Ids) -> tuple[float, ...]:
    """A threshold a label.

    One for all labels has the best micro F1. A label that enough texts have gets one of its own,
    with the label's best F1 (Lipton, Elkan and Naryanaswamy 2014, "Optimal Thresholding of
    Classifiers to Maximize F1 Measure").

    Args:
        probabilities: shape (texts, labels).
        labels: 1 for each label that a text has, else 0; the same shape.
    """
    common = best_threshold(probabilities.ravel(), labels.ravel())
    return tuple(
        best_threshold(probabilities[:, label], labels[:, label])
        if labels[:, label].sum() >= LEAST_POSITIVES
        else common
        for label in range(labels.shape[1])
    )
