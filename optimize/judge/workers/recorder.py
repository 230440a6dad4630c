"""What the replicates of a run measured, collected into its times."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from optimize.judge.records import Series, Timing
from optimize.judge.workers.blocks import Block

# Share of looks at which others wanted the cores, from which a workload counts as beside
# neighbours.
NEIGHBOURS_SHARE = 0.1


class Recorder:
    """Collects what the replicates of a run measure."""

    def __init__(self, batch_sizes: dict[str, int]) -> None:
        self._batch_sizes = batch_sizes
        self._blocks: dict[tuple[str, str], list[list[Block]]] = defaultdict(list)
        self._per_block: dict[tuple[str, str], int] = {}
        self._looks: dict[str, list[bool]] = defaultdict(list)
        self._startup: dict[str, list[float]] = defaultdict(list)
        self._peak: dict[str, list[int]] = defaultdict(list)
        self._start = time.monotonic()
        self._spent: dict[str, float] = defaultdict(float)
        self.replicates = 0
        self.dropped = 0
        self.disturbed = 0
        self.kept = 0
        self._priority: list[bool] = []

    def startup(self, variant: str, seconds: float) -> None:
        """Note a start-up."""
        self._startup[variant].append(seconds)

    @contextmanager
    def spending(self, on: str) -> Iterator[None]:
        """Within it, time is spent on what the word says."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._spent[on] += time.monotonic() - started

    def priority(self, has: bool) -> None:
        """Note whether a worker runs before other processes."""
        self._priority.append(has)

    def peak(self, variant: str, peak_bytes: int) -> None:
        """Note a worker's peak memory."""
        self._peak[variant].append(peak_bytes)

    def look(self, workload: str, others: int) -> None:
        """Note how many others wanted the cores while no worker did."""
        self._looks[workload].append(others > 0)

    def blocks(self, workload: str, variant: str, blocks: Sequence[Block], calls: int) -> None:
        """Note one replicate's blocks, of so many calls each."""
        self._blocks[workload, variant].append(list(blocks))
        self._per_block[workload, variant] = calls

    def timing(self) -> Timing:
        """All that was noted so far."""
        series: dict[str, dict[str, Series]] = defaultdict(dict)
        for (workload, variant), replicates in self._blocks.items():
            every = [block for blocks in replicates for block in blocks]
            calls_ms = np.concatenate([block.calls_ns for block in every]) / 1e6
            points = all(block.least_s == block.most_s for block in every)
            series[workload][variant] = Series(
                blocks_s=tuple(tuple(block.most_s for block in blocks) for blocks in replicates),
                least_s=None
                if points
                else tuple(tuple(block.least_s for block in blocks) for blocks in replicates),
                beside_neighbours=float(np.mean(self._looks[workload])) > NEIGHBOURS_SHARE,
                calls=self._per_block[workload, variant],
                p50_ms=float(np.median(calls_ms)),
                p95_ms=float(np.percentile(calls_ms, 95)),
                cpu_s=tuple(
                    float(np.median([block.cpu_s for block in blocks])) for blocks in replicates
                ),
            )
        return Timing(
            series=dict(series),
            batch_sizes=self._batch_sizes,
            startup_s={name: tuple(values) for name, values in self._startup.items()},
            peak_rss_bytes={name: tuple(values) for name, values in self._peak.items()},
            replicates=self.replicates,
            dropped_blocks=self.dropped,
            disturbed_blocks=self.disturbed,
            kept_blocks=self.kept,
            priority=all(self._priority),
            seconds=time.monotonic() - self._start,
            spent_s=dict(self._spent),
        )
