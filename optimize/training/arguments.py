"""Arguments and callbacks that every training run shares."""

from __future__ import annotations

import time
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
from transformers.trainer import TRAINER_STATE_NAME

from optimize.machine import training_precision
from optimize.settings.training import TrainingSettings
from optimize.training.resume import SealCheckpoints
from optimize.training.run import Run
from optimize.workspace import Progress, Tell

BAR_EVERY_S = 0.5


def training_arguments(
    settings: TrainingSettings, work: Path, metric: str = "accuracy"
) -> TrainingArguments:
    """Arguments that every training stage shares: an evaluation and a checkpoint an epoch.

    Args:
        settings: of the training.
        work: folder of its checkpoints.
        metric: what the best epoch is chosen by.
    """
    return TrainingArguments(
        output_dir=str(work),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=128,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        optim="adamw_torch_fused",
        bf16=training_precision(settings.precision) == "bf16",
        use_cpu=not torch.cuda.is_available(),
        # The head takes no part in a loss on inner states alone.
        ddp_find_unused_parameters=_representation_epochs(settings) > 0,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,  # the newest may be cut short, and then the one before is whole
        load_best_model_at_end=True,
        restore_callback_states_from_checkpoint=True,  # epochs without gain, of `patience`
        metric_for_best_model=metric,
        logging_strategy="no",
        report_to="none",
        seed=settings.seed,
        data_seed=settings.seed,
        remove_unused_columns=False,
        disable_tqdm=True,  # a bar of our own says the same, beside the stages
        dataloader_pin_memory=False,
    )


def callbacks(settings: TrainingSettings, run: Run) -> list[TrainerCallback]:
    """Sealed checkpoints, a line an epoch, an early stop where the settings ask, the run's own."""
    chosen: list[TrainerCallback] = [SealCheckpoints(run), EpochLine(run.tell), *run.watch]
    if settings.patience:
        chosen.append(Patience(settings.patience, _representation_epochs(settings)))
    return chosen


def _representation_epochs(settings: TrainingSettings) -> int:
    """Epochs of the losses on inner states alone; a teacher has none."""
    return int(getattr(settings, "representation_epochs", 0))


class Patience(EarlyStoppingCallback):
    """An early stop that counts no epoch in which the head is not learning yet.

    Args:
        patience: epochs without a gain.
        spared: epochs from the start on that do not count.
    """

    def __init__(self, patience: int, spared: int) -> None:
        super().__init__(early_stopping_patience=patience)
        self._spared = spared

    def on_evaluate(  # type: ignore[override]  # as the callback that it extends
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float],
        **more: Any,
    ) -> None:
        """Count an epoch."""
        if (state.epoch or 0.0) > self._spared:
            super().on_evaluate(args, state, control, metrics, **more)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: how it is made again, and how many epochs were counted."""
        made = {"patience": self.early_stopping_patience, "spared": self._spared}
        return {**super().state(), "args": made}


def epochs_if_stopped(checkpoint: Path) -> int:
    """How many epochs a training had when its patience ended it; 0 where it goes on.

    Trainer forgets a stop when it resumes, and would train one epoch more.
    """
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    kept = state.stateful_callbacks.get(Patience.__name__)
    if not isinstance(kept, dict):
        return 0
    counted = kept["attributes"]["early_stopping_patience_counter"]
    return round(state.epoch or 0) if counted >= kept["args"]["patience"] else 0


class EpochLine(TrainerCallback):
    """Tells the score on validation and the time left after every epoch."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._start = time.monotonic()
        self._first_epoch = 0.0
        self._told, self._score = 0.0, ""

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
        name = str(args.metric_for_best_model)
        score = (metrics or {}).get(f"eval_{name}", float("nan"))
        self._score = f"validation {name.replace('_', ' ')} {score:.4f}"
        words = (
            f"epoch {epoch:.0f} of {args.num_train_epochs:.0f}, {self._score}, {left:.0f} s left"
        )
        self._tell(Progress(words, epoch / args.num_train_epochs))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Move the bar, twice a second."""
        now = time.monotonic()
        if state.max_steps > 0 and now > self._told + BAR_EVERY_S:
            self._told = now
            words = f"step {state.global_step:,} of {state.max_steps:,}"
            words += f", {self._score}" if self._score else ""
            self._tell(Progress(words, state.global_step / state.max_steps, passing=True))
