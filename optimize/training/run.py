"""What fine-tuning and distillation share: arguments, evaluation sets, resuming, progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import (
    EarlyStoppingCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from optimize.machine import has_fast_bf16
from optimize.settings.training import TrainingSettings
from optimize.training.distributed import Processes
from optimize.training.profile import Profile

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
