"""How deep a student will be, and which of the teacher's layers each of its own stands for."""

from __future__ import annotations

from transformers import PreTrainedModel

from optimize.models.checkpoint import load_config
from optimize.models.encoder import LAYER_COUNT_KEYS, chosen_layers, layer_stack
from optimize.settings.training import StudentSettings


def student_depth(settings: StudentSettings, teacher: PreTrainedModel) -> int:
    """Encoder layers that the student will have."""
    if settings.layers is not None:
        return settings.layers if isinstance(settings.layers, int) else len(settings.layers)
    if settings.checkpoint == "teacher":
        return len(layer_stack(teacher)[2])
    config = load_config(settings.checkpoint, settings.revision)
    return int(next(getattr(config, key) for key in LAYER_COUNT_KEYS if hasattr(config, key)))


def mapped_layers(settings: StudentSettings, student: int, teacher: int) -> tuple[int, ...]:
    """The teacher's layer that each of the student's stands for, counted from 1.

    Where the student is made of the teacher, the very layers that it keeps; else the uniform map of
    Jiao et al. 2020, "TinyBERT", section 3.1.

    Args:
        settings: say which layers are kept.
        student: its layers.
        teacher: its layers.
    """
    if settings.checkpoint == "teacher":
        return chosen_layers(settings.layers or teacher, teacher)
    return tuple(max(1, layer * teacher // student) for layer in range(1, student + 1))
