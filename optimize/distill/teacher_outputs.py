"""The teacher's answers, stored: it runs once over the texts, or a file stands in for it."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from optimize.data.arrays import Rows
from optimize.machine import has_fast_bf16
from optimize.models.activations import Activations
from optimize.models.attention import attention_for
from optimize.models.encoder import classification_head
from optimize.training.batches import TOKENS_PER_BATCH, token_batches
from optimize.training.distributed import Processes
from optimize.training.run import Tell
from optimize.training.soft_targets import (
    HIDDEN_NAME,
    OFFSETS_NAME,
    POOLED_NAME,
    RELATIONS_NAME,
    STORE_NAME,
    SoftTargets,
)
from optimize.training.tokens import Tokens

TELL_EVERY_S = 10.0


class LogitsError(ValueError):
    """Precomputed logits that do not fit the data; the message gives both values."""


@dataclass(frozen=True)
class Wanted:
    """Inner states that are stored too, since a loss asks for them.

    Attributes:
        hidden: layers whose output is stored, counted from 1.
        relations: the layer whose queries, keys and values are stored.
    """

    hidden: tuple[int, ...] = ()
    relations: int | None = None


def score(
    model: PreTrainedModel,
    tokens: Tokens,
    folder: Path,
    tell: Tell,
    wanted: Wanted = Wanted(),
    processes: Processes | None = None,
) -> None:
    """Write what the model says of every text, row by row in order.

    Args:
        model: the teacher.
        tokens: the texts, by its own tokenizer; the student's may differ, since rows are joined by
            index.
        folder: gets ``logits.npy``, float32 of shape (texts, labels); ``pooled.npy``, float32 of
            shape (texts, width); and what is wanted as ``hidden.npy`` and ``relations.npy``,
            float16 of shape (tokens of all texts, states · width), with ``offsets.npy``.
        tell: told the progress.
        wanted: further states.
        processes: several share the batches among them, and all get the same folder.
    """
    processes = processes or Processes()
    activations = Activations(model, wanted.hidden, wanted.relations)
    if processes.first:
        _create(model, tokens, folder, wanted, activations.pooled_width)
    processes.wait()
    stores = SoftTargets.read(folder)
    batches = token_batches(tokens.lengths, TOKENS_PER_BATCH)[processes.rank :: processes.count]
    done, told, total = 0, time.monotonic(), sum(map(len, batches))
    model.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=has_fast_bf16()):
        for chosen in batches:
            batch = tokens.batch(chosen)
            with attention_for(batch["input_ids"].shape[1]):
                logits = model(**batch).logits
            stores.write(chosen, logits, activations, batch["attention_mask"])
            activations.clear()
            done += len(chosen)
            if time.monotonic() > told + TELL_EVERY_S or done == total:
                told = time.monotonic()
                tell(f"teacher logits: {done} of {total} texts")
    activations.remove()
    processes.wait()


def _create(
    model: PreTrainedModel, tokens: Tokens, folder: Path, wanted: Wanted, pooled_width: int
) -> None:
    """Empty stores; what is not wanted has none."""
    texts, all_tokens = len(tokens), int(tokens.lengths.sum())
    labels = classification_head(model).out_features
    Rows.create(folder / STORE_NAME, (texts, labels), np.float32)
    Rows.create(folder / POOLED_NAME, (texts, pooled_width), np.float32)
    if wanted.hidden or wanted.relations is not None:
        np.save(folder / OFFSETS_NAME, np.concatenate([[0], tokens.lengths.cumsum()]))
    width = model.config.hidden_size
    if wanted.hidden:
        shape = (all_tokens, len(wanted.hidden) * width)
        Rows.create(folder / HIDDEN_NAME, shape, np.float16)
    if wanted.relations is not None:
        Rows.create(folder / RELATIONS_NAME, (all_tokens, 3 * width), np.float16)


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
            "without distill.augment, distill.transfer and generate.checkpoint, since nothing "
            "scores what they would add"
        )
    columns = [names.index(name) for name in label_names]
    ordered = np.ascontiguousarray(logits[:, columns], dtype=np.float32)
    if not np.isfinite(ordered).all():
        row = int(np.flatnonzero(~np.isfinite(ordered).all(axis=1))[0])
        raise LogitsError(f"{source}, {split!r}, row {row}: a logit is not finite")
    np.save(store, ordered)
