"""Arrays on disk that are larger than memory: a batch of rows is mapped, copied and let go.

A file that stays mapped counts as this process's memory page by page as it is read, so that a pass
over a large store would grow to its size.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[Any]


class Rows:
    """A ``.npy`` file of rows.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.shape: tuple[int, ...] = self._map("r").shape

    @classmethod
    def create(cls, path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> Rows:
        """A new file of zeros, which takes no disk before it is written."""
        np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        return cls(path)

    def _map(self, mode: Any) -> Array:
        mapped: Array = np.load(self.path, mmap_mode=mode, allow_pickle=False)
        return mapped

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Array:
        """A copy of the rows that an index, a slice or an array of indices names."""
        return np.array(self._map("r")[rows])

    def __setitem__(self, rows: Any, values: Array) -> None:
        """Write rows."""
        self._map("r+")[rows] = values

    def blocks(self, spans: Iterable[tuple[int, int]]) -> list[Array]:
        """Copies of several stretches of rows, mapped once."""
        mapped = self._map("r")
        return [np.array(mapped[start:end]) for start, end in spans]

    def write_blocks(self, spans: Iterable[tuple[int, int]], values: Iterable[Array]) -> None:
        """Write several stretches of rows."""
        mapped = self._map("r+")
        for (start, end), block in zip(spans, values, strict=True):
            mapped[start:end] = block


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

    def _spans(self, rows: NDArray[np.int64]) -> list[tuple[int, int]]:
        return [(int(self._offsets[row]), int(self._offsets[row + 1])) for row in rows]


def padded(blocks: list[Array], fill: float = 0) -> Array:
    """Blocks of one batch as an array of shape (batch, longest, …)."""
    longest = max(len(block) for block in blocks)
    shape = (len(blocks), longest, *blocks[0].shape[1:])
    joined = np.full(shape, fill, dtype=blocks[0].dtype)
    for row, block in enumerate(blocks):
        joined[row, : len(block)] = block
    return joined
