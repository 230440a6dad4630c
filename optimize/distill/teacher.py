"""The teacher: a fine-tuned classifier, or a backbone fine-tuned here."""

from __future__ import annotations

from transformers import PreTrainedModel, PreTrainedTokenizerFast, set_seed

from optimize.data.splits import Split
from optimize.models.checkpoint import load_backbone, load_classifier, load_tokenizer
from optimize.settings.training import TeacherSettings
from optimize.training.dataset import TrainingSet
from optimize.training.evaluation import PaddingCollator, tokenised
from optimize.training.run import Run, callbacks
from optimize.training.tokens import tokenise_once
from optimize.training.trainer import ClassifierTrainer


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
        callbacks=callbacks(settings, "teacher", run),
    )
    trainer.fit()
    return model, tokenizer
