"""What a model is chosen by on validation: `evaluate` metrics that need no download."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast
from transformers.data.data_collator import pad_without_fast_tokenizer_warning

from optimize.data.splits import Split
from optimize.models.inputs import tokenizer_inputs
from optimize.training.thresholds import best_threshold


def tokenised(
    split: Split, tokenizer: PreTrainedTokenizerFast, max_length: int, *, pairs: bool = False
) -> datasets.Dataset:
    """Token ids and labels; padding is left to the collator, batch by batch."""
    inputs = tokenizer_inputs(split.texts, pairs=pairs)
    columns: dict[str, Any] = dict(tokenizer(*inputs, truncation=True, max_length=max_length))
    columns["labels"] = split.labels.tolist()
    return datasets.Dataset.from_dict(columns)


class PaddingCollator:
    """Rows of :func:`tokenised` to tensors, padded to the longest of the batch."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Tensors of shape (batch, longest), and labels."""
        names = [name for name in self._tokenizer.model_input_names if name in rows[0]]
        inputs = [{name: row[name] for name in names} for row in rows]
        batch = dict(
            pad_without_fast_tokenizer_warning(self._tokenizer, inputs, return_tensors="pt")
        )
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


class MicroF1(evaluate.Metric):  # type: ignore[misc]
    """F1 over all labels of all texts together, where a text may have several."""

    def _info(self) -> evaluate.MetricInfo:
        several = datasets.Sequence(datasets.Value("int64"))
        return evaluate.MetricInfo(
            description="F1 over all labels of all texts together.",
            citation="",
            inputs_description="predictions and references: 1 for a label that is given, else 0",
            features=datasets.Features({"predictions": several, "references": several}),
        )

    def _compute(self, *, predictions: Any, references: Any) -> dict[str, float]:
        given, right = np.asarray(predictions) == 1, np.asarray(references) == 1
        times = int(given.sum() + right.sum())
        return {"micro_f1": 2 * int((given & right).sum()) / times if times else 1.0}


def metric_of(labels: NDArray[np.int64]) -> str:
    """The name of what a model with such labels is chosen by."""
    return "accuracy" if labels.ndim == 1 else "micro_f1"


def score_of(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy; or where a text may have several labels, micro F1 at the best common threshold.

    At 0.5 it would say nothing for many epochs where each of many labels is rare, and thresholds
    are fitted on validation in the end.

    Args:
        logits: shape (texts, labels).
        labels: as a split has them.
    """
    several = labels.ndim == 2
    if several:
        answers = (logits > best_threshold(logits.ravel(), labels.ravel(), nothing=0.0)).astype(int)
    else:
        answers = logits.argmax(axis=-1)
    metric = (MicroF1 if several else Accuracy)(keep_in_memory=True)
    found: dict[str, float] = metric.compute(predictions=answers, references=labels)
    return found


def compute_metrics(evaluation: Any) -> dict[str, float]:
    """``compute_metrics`` of a Trainer: :func:`score_of` its logits."""
    scores = evaluation.predictions
    scores = scores[0] if isinstance(scores, tuple) else scores
    return score_of(scores, evaluation.label_ids)
