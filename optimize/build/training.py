"""What fine-tuning and distillation share: tokenised sets, arguments, resuming, progress."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.data.data_collator import pad_without_fast_tokenizer_warning
from transformers.trainer_utils import get_last_checkpoint

from optimize.machine import has_bf16
from optimize.settings import TrainingSettings

# A stage tells what it does through this, one line a call.
Tell = Callable[[str], None]


def tokenised(
    texts: Sequence[str],
    labels: NDArray[np.int64] | None,
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
) -> datasets.Dataset:
    """Token ids and their count; padding is left to the collator, batch by batch."""
    encoded = tokenizer(list(texts), truncation=True, max_length=max_length)
    columns: dict[str, Any] = {
        **encoded,
        "length": [len(ids) for ids in encoded["input_ids"]],
    }
    if labels is not None:
        columns["labels"] = labels.tolist()
    return datasets.Dataset.from_dict(columns)


class PaddingCollator:
    """Rows of :func:`tokenised` to tensors, padded to the longest of the batch.

    Args:
        tokenizer: pads the model's own inputs.
        targets: arrays of one row an example, by the name that the batch gets them under; a row
            with an ``index`` gets its own.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        targets: Mapping[str, NDArray[np.float32]] | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._targets = targets or {}

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Tensors of shape (batch, longest), and labels and targets where known."""
        names = [name for name in self._tokenizer.model_input_names if name in rows[0]]
        inputs = [{name: row[name] for name in names} for row in rows]
        batch = dict(
            pad_without_fast_tokenizer_warning(self._tokenizer, inputs, return_tensors="pt")
        )
        if "labels" in rows[0]:
            batch["labels"] = torch.tensor([row["labels"] for row in rows])
        if "index" in rows[0]:
            chosen = [row["index"] for row in rows]
            for name, target in self._targets.items():
                batch[name] = torch.from_numpy(np.asarray(target[chosen], dtype=np.float32))
        return batch


def training_arguments(settings: TrainingSettings, work: Path) -> TrainingArguments:
    """Arguments that every training stage shares: an evaluation and a checkpoint an epoch."""
    bf16 = settings.precision == "bf16" or (settings.precision == "auto" and has_bf16())
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
        group_by_length=True,
        length_column_name="length",
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


def callbacks(settings: TrainingSettings, stage: str, tell: Tell) -> list[TrainerCallback]:
    """One line an epoch, and an early stop where the settings ask for one."""
    chosen: list[TrainerCallback] = [EpochLine(stage, tell)]
    if settings.patience:
        chosen.append(EarlyStoppingCallback(early_stopping_patience=settings.patience))
    return chosen


def fit(trainer: Trainer, settings: TrainingSettings, work: Path) -> None:
    """Train, from the last checkpoint in ``work`` where a run was interrupted."""
    model = trainer.model
    if settings.freeze_embeddings and isinstance(model, PreTrainedModel):
        model.get_input_embeddings().requires_grad_(requires_grad=False)
    trainer.remove_callback(PrinterCallback)
    last = get_last_checkpoint(str(work)) if work.is_dir() else None
    with warnings.catch_warnings():
        # Checkpoints are numbered; that a file system keeps no fine times does not matter.
        warnings.filterwarnings("ignore", message="mtime may not be reliable")
        trainer.train(resume_from_checkpoint=last)


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
