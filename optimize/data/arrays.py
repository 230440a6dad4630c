"""Arrays on disk that are larger than memory, read and written a batch of rows at a time.

Rows are read, not mapped: around every row that is touched the kernel maps 64 KiB, and counts all
of it as this process's memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]
Span = tuple[int, int]  # the first row, and the one after the last


class Rows:
    """A ``.npy`` file of rows.

    Args:
        path: the file.

    Raises:
        ValueError: it is no such file, or its rows do not lie one after the other.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        header = np.load(path, mmap_mode="r", allow_pickle=False)
        if not header.flags.c_contiguous:
            raise ValueError(f"{path} is stored by columns; save it in C order")
        self.shape: tuple[int, ...] = header.shape
        self._dtype = header.dtype
        self._begin: int = header.offset
        self._row_bytes: int = header.itemsize * int(np.prod(self.shape[1:]))

    @classmethod
    def create(cls, path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> Rows:
        """A new file of zeros, which takes no disk before it is written."""
        np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        return cls(path)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: NDArray[np.int64] | slice) -> Array:
        """The rows that an array of numbers or a slice names, shape (rows, …)."""
        return np.concatenate(self.blocks([(0, 0), *self._spans(rows)]))

    def __setitem__(self, rows: NDArray[np.int64] | slice, values: Array) -> None:
        """Write rows, shape (rows, …)."""
        spans = self._spans(rows)
        ends = np.cumsum([end - start for start, end in spans])
        self.write_blocks(spans, np.split(values, ends[:-1]))

    def blocks(self, spans: Iterable[Span]) -> list[Array]:
        """Several stretches of rows."""
        found = []
        with self.path.open("rb") as stream:
            for start, end in spans:
                block = np.empty((end - start, *self.shape[1:]), dtype=self._dtype)
                stream.seek(self._place(start, end))
                if stream.readinto(block.data) != block.nbytes:
                    raise ValueError(f"{self.path} ends before row {end} of {len(self)}")
                found.append(block)
        return found

    def write_blocks(self, spans: Iterable[Span], values: Iterable[Array]) -> None:
        """Write several stretches of rows, each as long as its span."""
        with self.path.open("r+b") as stream:
            for (start, end), block in zip(spans, values, strict=True):
                if block.shape != (end - start, *self.shape[1:]):
                    raise ValueError(
                        f"{self.path}, rows {start} to {end}: written with shape {block.shape}, "
                        f"where a row has shape {self.shape[1:]}"
                    )
                stream.seek(self._place(start, end))
                stream.write(np.ascontiguousarray(block, dtype=self._dtype).data)

    def _spans(self, rows: NDArray[np.int64] | slice) -> list[Span]:
        if isinstance(rows, slice):
            start, end, _ = rows.indices(len(self))
            return [(start, end)]
        return [(row, row + 1) for row in rows.tolist()]

    def _place(self, start: int, end: int) -> int:
        if not 0 <= start <= end <= len(self):
            raise IndexError(f"{self.path} has {len(self)} rows, not {start} to {end}")
        return self._begin + start * self._row_bytes


class Ragged:
    """Blocks of unequal length, one an example: token ids, or vectors one a token.

    Args:
        values: file of all blocks, one after the other.
        offsets: where each begins; one more than there are examples.
    """

    def __init__(self, values: Path, offsets: Path) -> None:
        self.values = Rows(values)
        self._offsets: NDArray[np.int64] = np.load(offsets, allow_pickle=False)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Length of each block."""
        return np.diff(self._offsets)

    def __getitem__(self, rows: NDArray[np.int64]) -> list[Array]:
        """The blocks of some examples."""
        return self.values.blocks(self._spans(rows))

    def __setitem__(self, rows: NDArray[np.int64], blocks: list[Array]) -> None:
        """Write the blocks of some examples, each as long as its place."""
        self.values.write_blocks(self._spans(rows), blocks)

    def _spans(self, rows: NDArray[np.int64]) -> list[Span]:
        return [(int(self._offsets[row]), int(self._offsets[row + 1])) for row in rows]


def padded(blocks: list[Array], fill: float = 0) -> Array:
    """Blocks of one batch as an array of shape (batch, longest, …)."""
    longest = max(len(block) for block in blocks)
    shape = (len(blocks), longest, *blocks[0].shape[1:])
    joined = np.full(shape, fill, dtype=blocks[0].dtype)
    for row, block in enumerate(blocks):
        joined[row, : len(block)] = block
    return joined
