"""What can be known to fail before anything trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optimize.data.splits import DataError, Splits
from optimize.judge.checks import too_few
from optimize.judge.statistics.accuracy import distinct_rows
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


def undecidable(settings: Settings, splits: Splits) -> list[str]:
    """Gates that the judged split's texts cannot decide, whatever is answered, a sentence each."""
    judged = splits[settings.judge.split]
    # Of several labels a text, each set is one.
    sets = judged.labels.reshape(len(judged), -1)
    labels = np.unique(sets, axis=0, return_inverse=True)[1].reshape(-1)
    return too_few(len(distinct_rows(judged.texts, labels)), settings)


def check_gates(settings: Settings, splits: Splits) -> None:
    """Refuse gates that a run could never decide, before minutes of training.

    Raises:
        DataError: one needs more texts than there are; names it and the remedies.
    """
    if faults := undecidable(settings, splits):
        raise DataError("\n".join(faults))
