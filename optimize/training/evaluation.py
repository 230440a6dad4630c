"""Accuracy as an `evaluate` metric that needs no download."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast
from transformers.data.data_collator import pad_without_fast_tokenizer_warning


def tokenised(
    texts: Sequence[str],
    labels: NDArray[np.int64] | None,
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
) -> datasets.Dataset:
    """Token ids; padding is left to the collator, batch by batch."""
    columns: dict[str, Any] = dict(tokenizer(list(texts), truncation=True, max_length=max_length))
    if labels is not None:
        columns["labels"] = labels.tolist()
    return datasets.Dataset.from_dict(columns)


class PaddingCollator:
    """Rows of :func:`tokenised` to tensors, padded to the longest of the batch."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Tensors of shape (batch, longest), and labels where known."""
        names = [name for name in self._tokenizer.model_input_names if name in rows[0]]
        inputs = [{name: row[name] for name in names} for row in rows]
        batch = dict(
            pad_without_fast_tokenizer_warning(self._tokenizer, inputs, return_tensors="pt")
        )
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        return batch


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
