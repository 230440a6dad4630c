"""Batches of texts of like length."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# Examples are scored in order of length, this many tokens (padding included) at a time.
TOKENS_PER_BATCH = 4096


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
