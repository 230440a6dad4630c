"""Distillation: a Trainer whose loss mixes the labels with the teacher's soft targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Trainer

from optimize.build.augment import augmented
from optimize.build.data import Splits
from optimize.build.losses import UNLABELLED, distillation_loss
from optimize.build.metrics import compute_accuracy
from optimize.build.training import (
    PaddingCollator,
    Tell,
    callbacks,
    fit,
    tokenised,
    training_arguments,
)
from optimize.settings import DistillSettings


class DistillationTrainer(Trainer):
    """Trains a student on batches that carry ``teacher_logits``.

    A batch without them, as in evaluation, is scored by cross-entropy alone.

    Args:
        temperature: softens both distributions of the KL term.
        alpha: weight of the labels against the teacher.
        **kwargs: as for ``transformers.Trainer``.
    """

    def __init__(self, *, temperature: float, alpha: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = temperature
        self.alpha = alpha
        # The loss is a mean over the batch; Trainer must not rescale it by the token count.
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """Loss of one batch, and the model's outputs when asked for."""
        inputs = dict(inputs)
        labels, teacher_logits = inputs.pop("labels"), inputs.pop("teacher_logits", None)
        outputs = model(**inputs)
        logits = outputs.logits.float()
        if teacher_logits is None:
            loss = functional.cross_entropy(logits, labels)
        else:
            loss = distillation_loss(logits, teacher_logits, labels, self.temperature, self.alpha)
        return (loss, {"logits": outputs.logits}) if return_outputs else loss


def transfer_set(
    splits: Splits, settings: DistillSettings
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Texts that the student learns from: the training split, then unlabelled variations."""
    train = splits.train
    more = augmented(train.texts, train.labels.tolist(), settings.augment, settings.seed)
    unlabelled = np.full(len(more), UNLABELLED, dtype=np.int64)
    return (*train.texts, *more), np.concatenate([train.labels, unlabelled])


def distill(
    settings: DistillSettings,
    student: tuple[PreTrainedModel, PreTrainedTokenizerFast],
    teacher_logits: NDArray[np.float32],
    splits: Splits,
    max_length: int,
    work: Path,
    tell: Tell,
) -> PreTrainedModel:
    """Train the student on the transfer set and the teacher's logits for it.

    Args:
        settings: loss and training.
        student: model and its tokenizer; the model is trained in place.
        teacher_logits: shape (texts of the transfer set, labels), rows in its order.
        splits: data.
        max_length: longest input in tokens.
        work: folder for training checkpoints; a run that finds one there resumes.
        tell: told one line an epoch.
    """
    model, tokenizer = student
    validation = splits.validation
    texts, labels = transfer_set(splits, settings)
    learned = tokenised(texts, labels, tokenizer, max_length)
    trainer = DistillationTrainer(
        temperature=settings.temperature,
        alpha=settings.alpha,
        model=model,
        args=training_arguments(settings, work),
        train_dataset=learned.add_column("index", list(range(len(texts)))),
        eval_dataset=tokenised(validation.texts, validation.labels, tokenizer, max_length),
        data_collator=PaddingCollator(tokenizer, teacher_logits),
        compute_metrics=compute_accuracy,
        callbacks=callbacks(settings, "student", tell),
    )
    fit(trainer, settings, work)
    return model
