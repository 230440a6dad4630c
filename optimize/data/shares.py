"""Validation and test as shares of the training rows, where the data has no such splits."""

from __future__ import annotations

import random
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from optimize.data.sources import RawSplit, RawSplits
from optimize.settings.data import DataSettings

WORD = re.compile(r"\w+")


def with_shares(raw: RawSplits, settings: DataSettings) -> RawSplits:
    """The splits, those given as a share taken from the training rows.

    Each label keeps its share in every split (stratified), so far as its rows can be counted out.
    Texts of the same words, whatever their order, case and punctuation, stay on one side: else
    they would be learnt and then asked for.

    Args:
        raw: checked rows of ``train``, and of the splits that the data names.
        settings: the shares and the seed.
    """
    shares = settings.shares
    if not shares:
        return raw
    places = _divided(raw["train"], shares, settings.split_seed)
    origin = raw["train"].origin
    found = {**raw, "train": raw["train"].picked(places["train"])}
    for split, share in shares.items():
        found[split] = raw["train"].picked(places[split])
        found[split].origin = f"{origin}, {share:.0%} for {split}"
    return found


def _divided(pool: RawSplit, shares: dict[str, float], seed: int) -> dict[str, list[int]]:
    """Places in the pool by split, each in the pool's order."""
    groups: dict[str, list[int]] = defaultdict(list)
    for place, text in enumerate(pool.texts):
        groups[_words_of(text)].append(place)
    written = _strata(pool.labels)
    by_label: dict[str, list[list[int]]] = defaultdict(list)
    for places in groups.values():
        label = Counter(written[place] for place in places).most_common(1)[0][0]
        by_label[label].append(places)
    rng = random.Random(seed)
    found: dict[str, list[int]] = {split: [] for split in ("train", *shares)}
    owed = dict.fromkeys(shares, 0.0)
    for label in sorted(by_label):
        own = by_label[label]
        rng.shuffle(own)
        for split, chosen in _dealt(own, shares, owed).items():
            found[split].extend(chosen)
    return {split: sorted(places) for split, places in found.items()}


def _strata(labels: Sequence[Any]) -> list[str]:
    """What each row is counted as: its label; of several, the one that the fewest rows have.

    Whole sets of labels are mostly rare, and would all be dealt to training (Sechidis, Tsoumakas
    and Vlahavas 2011, "On the Stratification of Multi-label Data": the rarest label first).
    """
    rows = [label if isinstance(label, list | tuple) else (label,) for label in labels]
    counts = Counter(str(label) for row in rows for label in row)

    def rarest(row: Sequence[Any]) -> str:
        return min(map(str, row), key=lambda label: (counts[label], label), default="")

    return [rarest(row) for row in rows]


def _dealt(
    groups: Sequence[list[int]], shares: dict[str, float], owed: dict[str, float]
) -> dict[str, list[int]]:
    """One label's groups: each share is filled in turn, and the first group is for training.

    A label whose share is less than a row adds it to ``owed``, until that makes a row of one such
    label: else data of few texts a label would have no other split.
    """
    total = sum(map(len, groups))
    wanted = {split: round(share * total) for split, share in shares.items()}
    rare = [split for split in shares if not wanted[split] and len(groups) > 1]
    for split in rare:
        owed[split] += shares[split] * total
        wanted[split] = int(owed[split] >= 0.5)
    found: dict[str, list[int]] = {split: [] for split in ("train", *shares)}
    for number, places in enumerate(groups):
        split = "train"
        if number:
            # A group that would overfill by more than half of itself goes elsewhere.
            open_ = [s for s in shares if wanted[s] - len(found[s]) >= (len(places) + 1) // 2]
            split = max(open_, key=lambda s: wanted[s] - len(found[s]), default="train")
        found[split].extend(places)
    for split in rare:
        owed[split] -= len(found[split])
    return found


def _words_of(text: str) -> str:
    """The same for texts that differ in nothing but order, case, punctuation and repetition."""
    words = sorted(set(WORD.findall(text.casefold())))
    return " ".join(words) or text
