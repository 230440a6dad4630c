"""The teacher: a fine-tuned classifier, or a backbone fine-tuned here."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerFast, set_seed

from optimize.data.folds import without_fold
from optimize.data.splits import Split, TrainingData
from optimize.models.checkpoint import load_backbone, load_classifier, load_tokenizer
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
    model, tokenizer = make_teacher(settings, data.label_names, train, data.validation, run)
    save_trained(
        model,
        tokenizer,
        result,
        run.processes,
        labels=data.label_names,
        max_length=settings.max_length,
        inputs={"data": data.key_part},
        recipe={"teacher": settings.model_dump(exclude={"logits"})},
    )


def make_teacher(
    settings: TeacherSettings,
    label_names: tuple[str, ...],
    train: Split,
    validation: Split,
    run: Run,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Load the teacher, and fine-tune it where the settings say that it is a backbone.

    Args:
        settings: checkpoint and training.
        label_names: become the model's.
        train: what it learns from.
        validation: chooses the epoch that is kept.
        run: where it works, with whom, and who is told.
    """
    tokenizer = load_tokenizer(settings.checkpoint, settings.revision)
    if not settings.fine_tune:
        return load_classifier(settings.checkpoint, settings.revision), tokenizer
    set_seed(settings.seed)  # the new head is drawn at random
    model = load_backbone(settings.checkpoint, label_names, settings.revision)
    length = settings.max_length
    tokens = tokenise_once(train.texts, tokenizer, length, run.work / "tokens", run.processes)
    trainer = ClassifierTrainer(
        settings=settings,
        training_set=TrainingSet(tokens, train.labels, None),
        run=run,
        model=model,
        eval_dataset=tokenised(validation.texts, validation.labels, tokenizer, length),
        data_collator=PaddingCollator(tokenizer),
        callbacks=callbacks(settings, run),
    )
    trainer.fit()
    return model, tokenizer
