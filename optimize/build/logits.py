"""The teacher-logit store: the teacher runs once over the data, or a file stands in for it."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from optimize.build.student import classification_head
from optimize.build.training import PaddingCollator, Tell, tokenised
from optimize.machine import has_bf16

STORE_NAME = "logits.npy"
POOLED_NAME = "pooled.npy"
# Examples are scored in order of length, this many tokens (padding included) at a time.
TOKENS_PER_BATCH = 4096
TELL_EVERY_S = 10.0


class LogitsError(ValueError):
    """Precomputed logits that do not fit the data; the message gives both values."""


def score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    folder: Path,
    max_length: int,
    tell: Tell,
) -> None:
    """Write the model's logits and pooled embeddings of every text, row by row in order.

    Args:
        model: the teacher.
        tokenizer: its own; the student's may differ, since rows are joined by index.
        texts: what to score.
        folder: gets ``logits.npy``, float32 of shape (texts, labels), and ``pooled.npy``,
            float32 of shape (texts, width), both memory-mapped.
        max_length: longest input in tokens.
        tell: told the progress.
    """
    rows = tokenised(texts, None, tokenizer, max_length)
    collate = PaddingCollator(tokenizer)
    head = classification_head(model)
    logits = _new_store(folder / STORE_NAME, len(texts), head.out_features)
    pooled = _new_store(folder / POOLED_NAME, len(texts), head.in_features)
    seen: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    done, told = 0, time.monotonic()
    model.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=has_bf16()):
        for chosen in token_batches(np.asarray(rows["length"]), TOKENS_PER_BATCH):
            batch = collate([rows[int(row)] for row in chosen])
            logits[chosen] = model(**batch).logits.float().numpy()
            pooled[chosen] = seen.pop().float().numpy()
            done += len(chosen)
            if time.monotonic() > told + TELL_EVERY_S or done == len(texts):
                told = time.monotonic()
                tell(f"teacher logits: {done} of {len(texts)} texts")
    hook.remove()
    logits.flush()
    pooled.flush()


def _new_store(path: Path, rows: int, width: int) -> np.memmap[Any, np.dtype[np.float32]]:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(rows, width))


def token_batches(lengths: NDArray[np.int64], tokens: int) -> list[NDArray[np.int64]]:
    """Rows by rising length, in batches whose padded size is at most ``tokens``."""
    batches: list[NDArray[np.int64]] = []
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * lengths[order[end]] <= tokens:
            end += 1
        batches.append(order[start:end])
        start = end
    return batches


def read_store(store: Path) -> NDArray[np.float32]:
    """One file of :func:`score`, memory-mapped."""
    rows: NDArray[np.float32] = np.load(store, mmap_mode="r", allow_pickle=False)
    return rows


class Targets(NamedTuple):
    """What the teacher said of the transfer set, row by row.

    Attributes:
        logits: shape (texts, labels).
        pooled: shape (texts, width); absent where logits came precomputed.
    """

    logits: NDArray[np.float32]
    pooled: NDArray[np.float32] | None = None


def read_targets(folder: Path) -> Targets:
    """What :func:`score` or :func:`import_precomputed` left in a folder."""
    pooled = folder / POOLED_NAME
    return Targets(
        read_store(folder / STORE_NAME), read_store(pooled) if pooled.is_file() else None
    )


def import_precomputed(
    source: Path, split: str, examples: int, label_names: Sequence[str], store: Path
) -> None:
    """Copy one split of a precomputed ``.npz`` file into a store, columns in our label order.

    The file holds an array per split, rows in the order of the data, and ``labels``, the names
    of the columns.

    Raises:
        LogitsError: missing array, other labels, other number of rows, or NaN.
    """
    try:
        with np.load(source, allow_pickle=False) as arrays:
            names, logits = [str(name) for name in arrays["labels"]], arrays[split]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise LogitsError(
            f"{source} has no readable arrays 'labels' and {split!r}: {error}"
        ) from error
    if sorted(names) != sorted(label_names):
        raise LogitsError(
            f"{source} has logits for {len(names)} labels, the data has {len(label_names)}; they "
            "must be the same names"
        )
    if logits.shape != (examples, len(names)):
        raise LogitsError(
            f"{source} has {split!r} logits of shape {logits.shape}, the data needs "
            f"{(examples, len(names))}: rows must be the data's, in its order, "
            "and distill.augment = 0 since nothing scores what it would add"
        )
    columns = [names.index(name) for name in label_names]
    ordered = logits[:, columns].astype(np.float32)
    if not np.isfinite(ordered).all():
        row = int(np.flatnonzero(~np.isfinite(ordered).all(axis=1))[0])
        raise LogitsError(f"{source}, {split!r}, row {row}: a logit is not finite")
    np.save(store, ordered)
