"""What the workers are asked, and in which order."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence

from optimize.bundle.texts import evenly
from optimize.settings.judging import Workload

Batches = list[list[str]]
GOLDEN = (math.sqrt(5) - 1) / 2


def balanced_orders(names: Sequence[str], rng: random.Random) -> Iterator[list[str]]:
    """Orders in which each name stands at each place, and after each other, equally often.

    A Williams square (Williams 1949), its rows shuffled anew each time they are used up. For two
    names this is ABBA or BAAB.
    """
    size = len(names)
    first = [0]
    for step in range(1, size):
        first.append((first[-1] + (step if step % 2 else -step)) % size)
    rows = [[(place + shift) % size for place in first] for shift in range(size)]
    if size % 2:
        rows += [list(reversed(row)) for row in rows]
    while True:
        rng.shuffle(rows)
        for row in rows:
            yield [names[index] for index in row]


def workload_batches(texts: Sequence[str], workload: Workload, seed: int = 0) -> Batches:
    """The texts of a workload, call by call, long and short ones by turns.

    Args:
        texts: the judged split.
        workload: its batch size, and the quantiles of length between which the texts lie.
        seed: of what comes together in a batch.
    """
    by_length = sorted(texts, key=lambda text: (len(text), text))
    low, high = (round(quantile * len(by_length)) for quantile in workload.quantiles)
    pool = by_length[min(low, len(by_length) - 1) : max(high, low + 1)]
    wanted = max(workload.texts, 4 * workload.batch_size)
    chosen = evenly(pool, wanted)
    random.Random(seed).shuffle(chosen)
    while len(chosen) < workload.batch_size:
        chosen += chosen
    size = workload.batch_size
    batches = [chosen[start : start + size] for start in range(0, len(chosen) - size + 1, size)]
    return spread(sorted(batches, key=lambda batch: (max(map(len, batch)), batch)))


def spread(batches: Batches) -> Batches:
    """Sorted batches in an order of which every few that follow each other span all of them.

    Place k gets the rank of the fraction of k times the golden ratio, whose points lie evenly at
    any length (the three-gap theorem). So the few texts of a block, or of a replicate, are neither
    the short ones nor the long ones of the workload.
    """
    fractions = [place * GOLDEN % 1 for place in range(len(batches))]
    ranks = {fraction: rank for rank, fraction in enumerate(sorted(fractions))}
    return [batches[ranks[fraction]] for fraction in fractions]
