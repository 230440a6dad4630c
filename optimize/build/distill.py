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
from optimize.build.logits import Targets
from optimize.build.losses import UNLABELLED, distillation_loss, pooled_loss
from optimize.build.metrics import compute_accuracy
from optimize.build.student import classification_head
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
    """Trains a student on batches that carry ``teacher_logits``, and ``teacher_pooled`` if asked.

    A batch without them, as in evaluation, is scored by cross-entropy alone.

    Args:
        settings: temperature and the weights of the losses.
        pooled_width: width of the teacher's pooled embedding, where it is a target.
        **kwargs: as for ``transformers.Trainer``.
    """

    def __init__(
        self, *, settings: DistillSettings, pooled_width: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        student: PreTrainedModel = kwargs["model"]
        self.settings = settings
        # The loss is a mean over the batch; Trainer must not rescale it by the token count.
        self.model_accepts_loss_kwargs = False
        self._pooled: list[Tensor] = []
        if pooled_width is not None:
            head = classification_head(student)
            head.register_forward_pre_hook(lambda _, inputs: self._pooled.append(inputs[0]))
            if head.in_features != pooled_width:
                # On the model, so that the optimizer and checkpoints know it; dropped at the end.
                student.pooled_projection = nn.Linear(head.in_features, pooled_width)

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
        teacher_pooled = inputs.pop("teacher_pooled", None)
        self._pooled.clear()
        outputs = model(**inputs)
        logits, settings = outputs.logits.float(), self.settings
        if teacher_logits is None:
            loss = functional.cross_entropy(logits, labels)
        else:
            loss = distillation_loss(
                logits, teacher_logits, labels, settings.temperature, settings.alpha
            )
        if teacher_pooled is not None:
            project = getattr(self.model, "pooled_projection", nn.Identity())
            loss = loss + settings.pooled * pooled_loss(
                project(self._pooled.pop()).float(), teacher_pooled
            )
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
    targets: Targets,
    splits: Splits,
    max_length: int,
    work: Path,
    tell: Tell,
) -> PreTrainedModel:
    """Train the student on the transfer set and what the teacher said of it.

    Args:
        settings: losses and training.
        student: model and its tokenizer; the model is trained in place.
        targets: the teacher's, rows in the order of the transfer set.
        splits: data.
        max_length: longest input in tokens.
        work: folder for training checkpoints; a run that finds one there resumes.
        tell: told one line an epoch.

    Raises:
        ValueError: ``distill.pooled`` asks for embeddings that precomputed logits do not have.
    """
    model, tokenizer = student
    validation = splits.validation
    texts, labels = transfer_set(splits, settings)
    arrays, pooled_width = {"teacher_logits": targets.logits}, None
    if settings.pooled:
        if targets.pooled is None:
            raise ValueError(
                f"distill.pooled = {settings.pooled:g} needs the teacher's embeddings, and "
                "teacher.logits holds logits only; leave out one of the two"
            )
        arrays["teacher_pooled"] = targets.pooled
        pooled_width = targets.pooled.shape[1]
    learned = tokenised(texts, labels, tokenizer, max_length)
    trainer = DistillationTrainer(
        settings=settings,
        pooled_width=pooled_width,
        model=model,
        args=training_arguments(settings, work),
        train_dataset=learned.add_column("index", list(range(len(texts)))),
        eval_dataset=tokenised(validation.texts, validation.labels, tokenizer, max_length),
        data_collator=PaddingCollator(tokenizer, arrays),
        compute_metrics=compute_accuracy,
        callbacks=callbacks(settings, "student", tell),
    )
    fit(trainer, settings, work)
    if hasattr(model, "pooled_projection"):
        del model.pooled_projection
    classification_head(model)._forward_pre_hooks.clear()
    return model
