"""Accuracy as an `evaluate` metric that needs no download."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np


class Accuracy(evaluate.Metric):  # type: ignore[misc]
    """Share of predictions that equal their reference.

    ``evaluate.load("accuracy")`` downloads a script; this one works offline.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of predictions that equal their reference.",
            citation="",
            inputs_description="predictions and references: class ids, equally long",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, *, predictions: Any, references: Any) -> dict[str, float]:
        return {"accuracy": float(np.mean(np.asarray(predictions) == np.asarray(references)))}


def compute_accuracy(evaluation: Any) -> dict[str, float]:
    """``compute_metrics`` of a Trainer: logits of shape (examples, labels) to accuracy."""
    scores = evaluation.predictions
    scores = scores[0] if isinstance(scores, tuple) else scores
    result: dict[str, float] = Accuracy(keep_in_memory=True).compute(
        predictions=scores.argmax(axis=-1), references=evaluation.label_ids
    )
    return result
