"""The student before it learns: a checkpoint, or chosen layers of the teacher."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerFast, set_seed

from optimize.models.checkpoint import load_backbone, load_classifier, load_config, load_tokenizer
from optimize.models.encoder import (
    LAYER_COUNT_KEYS,
    classification_head,
    keep_layers,
    layer_stack,
    set_dropout,
)
from optimize.models.mean_pooled_bert import mean_pooled
from optimize.settings.training import StudentSettings


def make_student(
    settings: StudentSettings, teacher: str, label_names: Sequence[str], seed: int
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Initialise the student.

    Args:
        settings: checkpoint and layers.
        teacher: folder of the fine-tuned teacher; ``checkpoint = "teacher"`` starts from it.
        label_names: class names, for a checkpoint that has no head for them yet.
        seed: for the weights of a new head.

    Raises:
        StudentError: it has not those layers, or cannot be pooled so.
    """
    set_seed(seed)
    if settings.checkpoint == "teacher":
        model, tokenizer = load_classifier(teacher), load_tokenizer(teacher)
    else:
        model = load_backbone(settings.checkpoint, label_names, settings.revision)
        tokenizer = load_tokenizer(settings.checkpoint, settings.revision)
    if settings.pooling == "mean":
        model = mean_pooled(model)
    keep_layers(model, settings.layers)
    if settings.new_head:
        model._init_weights(classification_head(model))
    if settings.dropout is not None:
        set_dropout(model, settings.dropout)
    return model, tokenizer


def student_depth(settings: StudentSettings, teacher: PreTrainedModel) -> int:
    """Encoder layers that the student will have."""
    if settings.layers is not None:
        return settings.layers if isinstance(settings.layers, int) else len(settings.layers)
    if settings.checkpoint == "teacher":
        return len(layer_stack(teacher)[2])
    config = load_config(settings.checkpoint, settings.revision)
    return int(next(getattr(config, key) for key in LAYER_COUNT_KEYS if hasattr(config, key)))
