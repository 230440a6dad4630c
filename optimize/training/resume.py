"""The newest training checkpoint that was written to its end."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers import TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import get_last_checkpoint

from optimize.training.run import Run


def last_whole_checkpoint(run: Run) -> str | None:
    """The newest checkpoint that was written to its end; half-written ones are removed.

    Trainer writes a checkpoint's ``trainer_state.json`` last: where it is missing or cut short, the
    run was killed in between.
    """
    # None looks before the first has removed what is half-written.
    run.processes.by_first(lambda: _remove_half_written(run.work))
    found = get_last_checkpoint(str(run.work)) if run.work.is_dir() else None
    return None if found is None else str(found)


def _remove_half_written(work: Path) -> None:
    for folder in work.glob("checkpoint-*"):
        if not _is_whole(folder):
            shutil.rmtree(folder)


def _is_whole(checkpoint: Path) -> bool:
    try:
        TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    except (OSError, ValueError):
        return False
    return True
