"""The teacher: a fine-tuned classifier, or a backbone fine-tuned here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerFast, set_seed

from optimize.data.folds import without_fold
from optimize.data.splits import Split, TrainingData
from optimize.models.checkpoint import as_stored, load_backbone, load_classifier, load_tokenizer
from optimize.models.encoder import classification_head
from optimize.settings.training import TeacherSettings
from optimize.training.arguments import callbacks
from optimize.training.dataset import TrainingSet
from optimize.training.evaluation import PaddingCollator, tokenised
from optimize.training.run import Run
from optimize.training.save import save_trained
from optimize.training.tokens import tokenise_once
from optimize.training.trainer import ClassifierTrainer


def build_teacher(
    result: Path,
    run: Run,
    *,
    settings: TeacherSettings,
    data: TrainingData,
    fold: tuple[int, int] | None,
) -> None:
    """The stage: a teacher's folder.

    Args:
        result: folder to fill.
        run: where it works, with whom, and who is told.
        settings: checkpoint and training.
        data: what it learns from, and the split that chooses the epoch.
        fold: (number, folds) where it is one of several teachers that each leave out a fold.
    """
    train = data.train if fold is None else without_fold(data.train, *fold)
    model, tokenizer = make_teacher(settings, data, train, run)
    save_trained(
        model,
        tokenizer,
        result,
        run.processes,
        labels=data.label_names,
        max_length=settings.max_length,
        problem_type=data.problem_type,
        text_pair=data.pairs,
        inputs={"data": data.key_part},
        recipe={"teacher": settings.model_dump(exclude={"logits"})},
    )


def make_teacher(
    settings: TeacherSettings,
    data: TrainingData,
    train: Split,
    run: Run,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load the teacher, and fine-tune it where the settings say that it is a backbone.

    Args:
        settings: checkpoint and training.
        data: has the labels, and the validation texts that choose the epoch that is kept.
        train: what it learns from: all of the training texts, or some.
        run: where it works, with whom, and who is told.
    """
    tokenizer = load_tokenizer(settings.checkpoint, settings.revision)
    if not settings.fine_tune:
        model = load_classifier(settings.checkpoint, settings.revision)
        return as_stored(model, settings.checkpoint, settings.revision), tokenizer
    set_seed(settings.seed)  # the new head is drawn at random
    model = load_backbone(
        settings.checkpoint, data.label_names, settings.revision, data.problem_type
    )
    if data.multi_label:
        _begin_at_shares(model, train.labels)
    length = settings.max_length
    tokens = tokenise_once(
        train.texts, tokenizer, length, run.work / "tokens", run.processes, pairs=data.pairs
    )
    trainer = ClassifierTrainer(
        settings=settings,
        training_set=TrainingSet(tokens, train.labels, None),
        run=run,
        model=model,
        eval_dataset=tokenised(data.validation, tokenizer, length, pairs=data.pairs),
        data_collator=PaddingCollator(tokenizer),
        callbacks=callbacks(settings, run),
    )
    trainer.fit()
    return model, tokenizer


def _begin_at_shares(model: PreTrainedModel, labels: NDArray[np.int64]) -> None:
    """Let a new head begin with each label's share as its probability.

    Else the first epochs are spent on learning that each of many labels is rare (Lin et al. 2017,
    "Focal Loss for Dense Object Detection", section 3.3).

    Args:
        model: its head has a bias; where it has none, nothing is done.
        labels: 1 for each label that a text has, else 0, shape (texts, labels).
    """
    head = classification_head(model)
    if head.bias is None:
        return
    shares = (labels.sum(axis=0) + 0.5) / (len(labels) + 1)
    with torch.no_grad():
        head.bias.copy_(torch.from_numpy(np.log(shares / (1 - shares))))
