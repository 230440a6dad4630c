"""What fine-tuning and distillation share: arguments, evaluation sets, resuming, progress."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import (
    EarlyStoppingCallback,
    PreTrainedTokenizerFast,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.data.data_collator import pad_without_fast_tokenizer_warning
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import get_last_checkpoint

from optimize.build.processes import Processes
from optimize.build.profile import Profile
from optimize.machine import has_fast_bf16
from optimize.settings.training import TrainingSettings

# A stage tells what it does through this, one line a call.
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """One training run: where it works, and who is told.

    Attributes:
        work: folder for training checkpoints; a run that finds one there resumes.
        tell: told one line an epoch.
        processes: those that train together.
        profile: told where the time goes.
        watch: further callbacks.
    """

    work: Path
    tell: Tell
    processes: Processes = field(default_factory=Processes)
    profile: Profile = field(default_factory=Profile)
    watch: tuple[TrainerCallback, ...] = ()


# In bf16 torch's fused attention packs its operands into tiles that short texts leave almost empty:
# at 12 tokens it took eight times as long as the plain one, at 128 twice, and less from 256 on.
PLAIN_ATTENTION_UP_TO = 128


def attention_for(tokens: int) -> AbstractContextManager[object]:
    """The faster attention on this processor for a batch of texts of so many tokens."""
    if torch.cuda.is_available() or tokens > PLAIN_ATTENTION_UP_TO:
        return nullcontext()
    return sdpa_kernel(SDPBackend.MATH)


def tokenised(
    texts: Sequence[str],
    labels: NDArray[np.int64] | None,
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
) -> datasets.Dataset:
    """Token ids; padding is left to the collator, batch by batch."""
    columns: dict[str, Any] = dict(tokenizer(list(texts), truncation=True, max_length=max_length))
    if labels is not None:
        columns["labels"] = labels.tolist()
    return datasets.Dataset.from_dict(columns)


class PaddingCollator:
    """Rows of :func:`tokenised` to tensors, padded to the longest of the batch."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Tensors of shape (batch, longest), and labels where known."""
        names = [name for name in self._tokenizer.model_input_names if name in rows[0]]
        inputs = [{name: row[name] for name in names} for row in rows]
        batch = dict(
            pad_without_fast_tokenizer_warning(self._tokenizer, inputs, return_tensors="pt")
        )
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        return batch


def training_arguments(settings: TrainingSettings, work: Path) -> TrainingArguments:
    """Arguments that every training stage shares: an evaluation and a checkpoint an epoch."""
    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and has_fast_bf16())
    return TrainingArguments(
        output_dir=str(work),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=128,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_ratio=settings.warmup_ratio,
        lr_scheduler_type="linear",
        optim="adamw_torch_fused",
        bf16=bf16,
        use_cpu=not torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        logging_strategy="no",
        report_to="none",
        seed=settings.seed,
        data_seed=settings.seed,
        remove_unused_columns=False,
        disable_tqdm=not sys.stderr.isatty(),
        dataloader_pin_memory=False,
    )


def callbacks(settings: TrainingSettings, stage: str, run: Run) -> list[TrainerCallback]:
    """One line an epoch, an early stop where the settings ask for one, and the run's own."""
    chosen: list[TrainerCallback] = [EpochLine(stage, run.tell), *run.watch]
    if settings.patience:
        chosen.append(EarlyStoppingCallback(early_stopping_patience=settings.patience))
    return chosen


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


class EpochLine(TrainerCallback):
    """Tells the validation accuracy and the time left after every epoch."""

    def __init__(self, stage: str, tell: Tell) -> None:
        self._stage = stage
        self._tell = tell
        self._start = time.monotonic()
        self._first_epoch = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Note where this process starts, which after a resume is not epoch 0."""
        self._start = time.monotonic()
        self._first_epoch = state.epoch or 0.0

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Tell one line."""
        epoch = state.epoch or 0.0
        done = epoch - self._first_epoch
        elapsed = time.monotonic() - self._start
        left = elapsed / done * (args.num_train_epochs - epoch) if done > 0 else 0.0
        accuracy = (metrics or {}).get("eval_accuracy", float("nan"))
        self._tell(
            f"{self._stage}: epoch {epoch:.0f} of {args.num_train_epochs:.0f}, "
            f"validation accuracy {accuracy:.4f}, {left:.0f} s left"
        )
