"""``optimize doctor``: what this machine is, and whether it is quiet enough to judge."""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Iterator
from importlib import metadata

import numpy as np

LIBRARIES = (
    "onnxruntime", "tokenizers", "numpy", "msgspec", "torch", "transformers", "optimum", "onnx",
    "scikit-learn",
)  # fmt: skip
# Combinations that are known to fail, and what to do: two distributions with the first versions.
KNOWN_BAD = (
    (("transformers", 5), ("optimum", 2), "optimum allows no transformers 5: the row of optimum's "
     "own INT8 is left out; install transformers 4.57 for it"),
    (("numpy", 2), ("onnxruntime", 1, 18), "onnxruntime 1.18 was built against numpy 1: install "
     "numpy below 2"),
)  # fmt: skip
LEAST_BLOCKS = 8
# Up to which a machine counts as quiet: share of looks at which others wanted the cores, and the
# scatter of neighbouring blocks' ratio.
QUIET_SHARE, QUIET_SCATTER = 0.1, 0.2


def doctor(arguments: argparse.Namespace) -> int:
    """Print what a verdict hangs on; 1 where something is known to fail."""
    faults = 0
    for line in _machine():
        print(line)
    for line in _libraries():
        print(line)
    for words in _known_bad():
        print(f"known to fail: {words}")
        faults = 1
    print(_cache())
    print(_noise(arguments.seconds))
    return faults


def _machine() -> Iterator[str]:
    from optimize.machine import available_cores, cpu_model, isa_class, isa_flags

    yield f"cores this process may use: {available_cores()}"
    yield f"{cpu_model()}; INT8 by {isa_class()} (has {', '.join(isa_flags()) or 'none known'})"


def _libraries() -> Iterator[str]:
    for name in LIBRARIES:
        yield f"{name}: {_version(name) or 'not installed'}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _known_bad() -> Iterator[str]:
    for first, second, words in KNOWN_BAD:
        if _is(*first) and _is(*second):
            yield words


def _is(name: str, *version: int) -> bool:
    found = _version(name)
    if found is None:
        return False
    parts = [int(part) for part in found.split(".")[: len(version)] if part.isdigit()]
    return tuple(parts) == version


def _cache() -> str:
    from optimize.pipeline.cache import StageCache, default_root

    cache = StageCache(default_root())
    count = sum(1 for _ in cache.entries())
    return f"cache: {count} stages, {cache.disk_bytes() / 1e6:,.0f} MB in {default_root()}"


def _noise(seconds: float) -> str:
    """The same work against itself, block by block, while others are looked for."""
    from optimize.machine import Disturbance, neighbours
    from optimize.priority import real_time

    with real_time() as first_served:
        pass  # what is measured here is what others do
    disturbance = Disturbance()
    disturbance.since_last()
    blocks: list[float] = []
    looks: list[bool] = []
    started = time.monotonic()
    while time.monotonic() - started < seconds or len(blocks) < LEAST_BLOCKS:
        looks.append(neighbours() > 0)
        blocks.append(_block_s())
    stolen, throttled = disturbance.since_last()
    share = sum(looks) / len(looks)
    ratios = [math.log(a / b) for a, b in zip(blocks[::2], blocks[1::2], strict=False)]
    middle, scatter = math.exp(statistics.median(ratios)), statistics.stdev(ratios)
    quiet = share <= QUIET_SHARE and throttled == 0 and scatter <= QUIET_SCATTER
    words = "quiet enough to judge" if quiet else "busy: intervals will be wider, gates undecided"
    return (
        f"noise: the same work took {middle:.3f} times itself, {100 * scatter:.1f} % scatter of "
        f"{len(ratios)} pairs; others wanted the cores at {100 * share:.0f} % of looks; "
        f"{stolen:.2f} s stolen, {throttled:.2f} s throttled: {words}\n"
        f"workers are served before other processes: {'yes' if first_served else 'no'}"
    )


def _block_s() -> float:
    """Seconds of a fixed piece of work, about 20 ms."""
    # No matrix product: its threads would spin on, and be taken for somebody else's.
    values = np.full(65_536, 0.5, dtype=np.float32)
    started = time.perf_counter()
    for _ in range(200):
        values = np.sqrt(values * values + 1.0) - 0.5
    return time.perf_counter() - started
