"""The teacher: a fine-tuned classifier, or a backbone fine-tuned here."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerFast, Trainer, set_seed

from optimize.build.checkpoint import load_backbone, load_classifier, load_tokenizer
from optimize.build.data import Splits
from optimize.build.metrics import compute_accuracy
from optimize.build.training import (
    PaddingCollator,
    Tell,
    callbacks,
    fit,
    tokenised,
    training_arguments,
)
from optimize.settings import TeacherSettings


def make_teacher(
    settings: TeacherSettings, splits: Splits, work: Path, tell: Tell
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load the teacher, and fine-tune it where the settings say that it is a backbone.

    Args:
        settings: checkpoint and training.
        splits: data; the label names become the model's.
        work: folder for training checkpoints; a run that finds one there resumes.
        tell: told one line an epoch.
    """
    tokenizer = load_tokenizer(settings.checkpoint, settings.revision)
    if not settings.fine_tune:
        return load_classifier(settings.checkpoint, settings.revision), tokenizer
    set_seed(settings.seed)  # the new head is drawn at random
    model = load_backbone(settings.checkpoint, splits.label_names, settings.revision)
    trainer = Trainer(
        model=model,
        args=training_arguments(settings, work),
        train_dataset=tokenised(
            splits.train.texts, splits.train.labels, tokenizer, settings.max_length
        ),
        eval_dataset=tokenised(
            splits.validation.texts, splits.validation.labels, tokenizer, settings.max_length
        ),
        data_collator=PaddingCollator(tokenizer),
        compute_metrics=compute_accuracy,
        callbacks=callbacks(settings, "teacher", tell),
    )
    fit(trainer, settings, work)
    return model, tokenizer
