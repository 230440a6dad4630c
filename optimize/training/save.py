"""A trained model, written once for all processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from optimize.models.folder import save_torch
from optimize.training.distributed import Processes


def save_trained(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    processes: Processes,
    **fields: Any,
) -> None:
    """Let the first process write what all have trained, and the others wait for it.

    Args:
        model: the classifier.
        tokenizer: its own.
        folder: an empty one.
        processes: those that trained together.
        **fields: what the manifest says beside files and libraries.
    """
    if processes.first:
        save_torch(model, tokenizer, folder, **fields)
    processes.wait()
