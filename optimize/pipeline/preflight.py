"""What can be known to fail before anything trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from optimize.settings.recipe import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def preflight(settings: Settings) -> PreTrainedTokenizerFast | None:
    """Hold the recipe's checkpoints against its settings.

    Returns:
        The teacher's tokenizer; nothing where the recipe has no teacher.

    Raises:
        CheckpointError: one that does not fit; see :func:`optimize.models.fit.check_fit`.
    """
    if not settings.builds_chain:
        return None
    from optimize.models.fit import check_fit

    teacher, student = settings.teacher, settings.student
    length, own = teacher.max_length, student.checkpoint != "teacher"
    tokenizer = check_fit(
        teacher.checkpoint,
        teacher.revision,
        length,
        fine_tuned=not teacher.fine_tune,
        layers=None if own else student.layers,
        problem_type=settings.data.problem_type,
    )
    if own:
        check_fit(
            student.checkpoint,
            student.revision,
            length,
            fine_tuned=False,
            layers=student.layers,
            problem_type=settings.data.problem_type,
        )
    return tokenizer
