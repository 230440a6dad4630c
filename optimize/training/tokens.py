"""Texts tokenised once, to a file, and read back a batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from optimize.data.arrays import Ragged, padded
from optimize.models.inputs import tokenizer_inputs
from optimize.training.distributed import Processes

IDS_NAME = "ids.npy"
TYPES_NAME = "types.npy"
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
        types = folder / TYPES_NAME
        self._types = Ragged(types, self.offsets) if types.is_file() else None

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
        if self._types is not None:
            types = padded(self._types[rows]).astype(np.int64)
            batch["token_type_ids"] = torch.from_numpy(types)
        elif self._typed:
            batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
        return batch


def tokenise(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    folder: Path,
    *,
    pairs: bool = False,
) -> Tokens:
    """Tokenise a stream of texts into a folder; a chunk of them is in memory at a time.

    Args:
        texts: as a split has them.
        tokenizer: of the model that is to read them.
        max_length: in tokens, beyond which a text is cut.
        folder: to write to.
        pairs: whether each text is a pair; then token types are written too, where the model
            tells them apart.
    """
    folder.mkdir(parents=True, exist_ok=True)
    typed = pairs and "token_type_ids" in tokenizer.model_input_names
    columns = {"input_ids": IDS_NAME} | ({"token_type_ids": TYPES_NAME} if typed else {})
    raw = {column: folder / f"{name}.part" for column, name in columns.items()}
    lengths: list[NDArray[np.int64]] = []
    with ExitStack() as stack:
        streams = {column: stack.enter_context(path.open("wb")) for column, path in raw.items()}
        for chunk in _chunks(texts):
            inputs = tokenizer_inputs(chunk, pairs=pairs)
            encoded = tokenizer(*inputs, truncation=True, max_length=max_length)
            lengths.append(np.array([len(ids) for ids in encoded["input_ids"]], dtype=np.int64))
            for column, stream in streams.items():
                rows = [np.asarray(row, dtype=np.int32) for row in encoded[column]]
                np.concatenate(rows).tofile(stream)
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), *lengths]).cumsum()
    for column, name in columns.items():
        _add_header(raw[column], folder / name, int(offsets[-1]))
    np.save(folder / OFFSETS_NAME, offsets)
    return Tokens(folder, tokenizer)


def tokenise_once(
    texts: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    folder: Path,
    processes: Processes,
    *,
    pairs: bool = False,
) -> Tokens:
    """The same for several processes: the first writes, all read."""
    if processes.first:
        tokenise(texts, tokenizer, max_length, folder, pairs=pairs)
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
