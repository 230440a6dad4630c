"""Training checkpoints that vouch for themselves, and the newest that is whole."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from optimize.bundle.manifest import FileEntry
from optimize.disk import flush
from optimize.training.run import Run

# Written last, so that a checkpoint with it was written to its end.
DIGESTS_NAME = "digests.json"
CHECKPOINT = re.compile(r"checkpoint-(\d+)")


class SealCheckpoints(TrainerCallback):
    """Writes the digest of every file beside each checkpoint, once all processes have written."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Seal the checkpoint that was just saved."""
        self._run.processes.wait()
        self._run.processes.by_first(lambda: seal(_folder(self._run.work, state.global_step)))


def seal(checkpoint: Path) -> None:
    """Write the digests of a checkpoint's files, when the disk holds them."""
    digests = {}
    for path in _files(checkpoint):
        flush(path)
        digests[path.relative_to(checkpoint).as_posix()] = FileEntry.of(path).sha256
    unfinished = checkpoint / f"{DIGESTS_NAME}.part"
    unfinished.write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")
    flush(unfinished)
    unfinished.replace(checkpoint / DIGESTS_NAME)
    flush(checkpoint)


def last_whole_checkpoint(run: Run) -> str | None:
    """The newest checkpoint whose files are as they were written; others are told and set aside."""
    # None looks before the first has set aside what is not whole.
    run.processes.by_first(lambda: _set_aside(run))
    found = _checkpoints(run.work)
    return str(found[-1]) if found else None


def _set_aside(run: Run) -> None:
    """The newest first: those below a whole one are not needed, and not looked at."""
    for checkpoint in reversed(_checkpoints(run.work)):
        fault = _fault(checkpoint)
        if not fault:
            return
        run.tell(f"{checkpoint.name} {fault}; it is set aside, and an earlier one is taken")
        checkpoint.rename(_free(checkpoint.with_name(f"damaged-{checkpoint.name}")))


def _fault(checkpoint: Path) -> str:
    """What is wrong with a checkpoint, or nothing."""
    try:
        digests = json.loads((checkpoint / DIGESTS_NAME).read_text(encoding="utf-8"))
        there = {path.relative_to(checkpoint).as_posix(): path for path in _files(checkpoint)}
        if not isinstance(digests, dict) or there.keys() != digests.keys():
            return "has other files than were written"
        for name, path in there.items():
            if FileEntry.of(path).sha256 != digests[name]:
                return f"has a damaged {name}"
    except FileNotFoundError:
        return "was not written to its end"
    except (OSError, ValueError) as error:
        return f"cannot be read ({error})"
    return ""


def _checkpoints(work: Path) -> list[Path]:
    """Every checkpoint, the newest last."""
    if not work.is_dir():
        return []
    found = [path for path in work.iterdir() if CHECKPOINT.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def _folder(work: Path, step: int) -> Path:
    return work / f"checkpoint-{step}"


def _files(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.rglob("*") if path.is_file() and path.name != DIGESTS_NAME
    )


def _free(path: Path) -> Path:
    """This name, or the first with a number that is not taken."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
