"""Texts tokenised once, to a file, and read back a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from optimize.build.processes import Processes
from optimize.build.store import Ragged, padded

IDS_NAME = "ids.npy"
OFFSETS_NAME = "offsets.npy"
CHUNK = 4096  # texts that are in memory at once


class Tokens:
    """The token ids of many texts, on disk.

    Args:
        folder: what :func:`tokenise` wrote.
        tokenizer: the same one; it knows the padding and the model's inputs.
    """

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
        self._ids = Ragged(folder / IDS_NAME, folder / OFFSETS_NAME)
        self.offsets = folder / OFFSETS_NAME
        self._pad_id = int(tokenizer.pad_token_id or 0)
        self._typed = "token_type_ids" in tokenizer.model_input_names

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each text."""
        return self._ids.lengths

    def batch(self, rows: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """The model's inputs for some texts, each of shape (texts, longest)."""
        blocks = self._ids[rows]
        mask = padded([np.ones(len(block), dtype=np.int64) for block in blocks])
        ids = padded(blocks, self._pad_id).astype(np.int64)
        batch = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        if self._typed:
            batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
        return batch


def tokenise(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerFast, max_length: int, folder: Path
) -> Tokens:
    """Tokenise a stream of texts into a folder; a chunk of them is in memory at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    lengths: list[NDArray[np.int64]] = []
    raw = folder / f"{IDS_NAME}.part"
    with raw.open("wb") as stream:
        for chunk in _chunks(texts):
            encoded = tokenizer(chunk, truncation=True, max_length=max_length)["input_ids"]
            lengths.append(np.array([len(ids) for ids in encoded], dtype=np.int64))
            np.concatenate([np.asarray(ids, dtype=np.int32) for ids in encoded]).tofile(stream)
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), *lengths]).cumsum()
    _add_header(raw, folder / IDS_NAME, int(offsets[-1]))
    np.save(folder / OFFSETS_NAME, offsets)
    return Tokens(folder, tokenizer)


def tokenise_once(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    folder: Path,
    processes: Processes,
) -> Tokens:
    """The same for several processes: the first writes, all read."""
    if processes.first:
        tokenise(texts, tokenizer, max_length, folder)
    processes.wait()
    return Tokens(folder, tokenizer)


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    stream = iter(texts)
    while chunk := list(islice(stream, CHUNK)):
        yield chunk


def _add_header(raw: Path, target: Path, count: int) -> None:
    """Raw int32 values as a ``.npy`` file, copied in pieces."""
    header: dict[str, Any] = {"descr": "<i4", "fortran_order": False, "shape": (count,)}
    with raw.open("rb") as source, target.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        while piece := source.read(1 << 20):
            stream.write(piece)
    raw.unlink()


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


class LengthBatches:
    """Training batches of nearly as many tokens each, of texts of like length, new every epoch.

    The order is a function of seed and epoch alone, so that a run that resumes, and every process
    of several, see the same batches. An epoch always has the same number of them.

    Args:
        lengths: tokens of each text.
        batch_size: texts of a batch, on average.
        seed: of the order.
        rank: this process's number among ``world``: it gets its share of each batch.
        world: processes that train together.

    Raises:
        ValueError: a batch would leave a process without a text.
    """

    # Batches' worth of texts that are sorted by length together: enough that a batch holds little
    # padding, few enough that an epoch stays random.
    SORTED_TOGETHER = 50

    def __init__(
        self,
        lengths: NDArray[np.int64],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        # Half as wide as numpy would have them: an epoch's order is in memory as a whole.
        self._lengths = lengths.astype(np.int32)
        self._batch_size = batch_size
        self._seed, self._rank, self._world = seed, rank, world
        tokens = int(lengths.sum())
        # A batch holds as many tokens as the longest text at least, so that none is empty.
        most = max(1, tokens // int(lengths.max()))
        self._count = min(most, -(-len(lengths) // batch_size))
        self.epoch = 0

    def __len__(self) -> int:
        return self._count

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        for rows in self.batches():
            share = rows[self._rank :: self._world]
            if not len(share):
                raise ValueError(
                    f"a batch of {len(rows)} texts leaves one of {self._world} processes without "
                    "any; raise distill.batch_size, or train with fewer processes"
                )
            yield share.tolist()

    def batches(self) -> list[NDArray[np.int32]]:
        """The whole batches of the epoch, all processes' shares together."""
        rng = np.random.default_rng([self._seed, self.epoch])
        order = rng.permutation(np.arange(len(self._lengths), dtype=np.int32))
        together = self.SORTED_TOGETHER * self._batch_size
        for start in range(0, len(order), together):
            part = order[start : start + together]
            order[start : start + together] = part[np.argsort(self._lengths[part], kind="stable")]
        ends = self._lengths[order].cumsum(dtype=np.int64)
        # In whole numbers, so that no batch is empty by rounding.
        shares = int(ends[-1]) * np.arange(1, self._count, dtype=np.int64) // self._count
        cuts = np.searchsorted(ends, shares, side="right")
        batches = np.split(order, cuts)
        rng.shuffle(batches)
        return batches
