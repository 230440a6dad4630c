"""Checked data: texts with label ids, split by split, and a digest of their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "validation", "test")


class DataError(ValueError):
    """Data that cannot be used; the message names file, row, column and remedy."""


# Label of an example that has none; torch's own default of `ignore_index`.
UNLABELLED = -100


@dataclass(frozen=True)
class Split:
    """Texts and label ids of one split, equally long."""

    texts: tuple[str, ...]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class TrainingData:
    """What training and fitting see of the data: the test texts are not in it.

    Attributes:
        label_names: class names; a label id is a position in it.
    """

    label_names: tuple[str, ...]
    train: Split
    validation: Split

    @cached_property
    def key_part(self) -> str:
        """SHA-256 of names, texts and labels."""
        named = {"train": self.train, "validation": self.validation}
        return digest_of(self.label_names, named)


@dataclass(frozen=True)
class Splits:
    """Checked data.

    Attributes:
        label_names: class names; a label id is a position in it.
    """

    label_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split

    def __getitem__(self, name: str) -> Split:
        if name not in SPLITS:
            raise KeyError(name)
        split: Split = getattr(self, name)
        return split

    @cached_property
    def key_part(self) -> str:
        """SHA-256 of names, texts and labels, the test split's too."""
        return digest_of(self.label_names, {name: self[name] for name in SPLITS})

    @cached_property
    def training(self) -> TrainingData:
        """The same without the test split."""
        return TrainingData(self.label_names, self.train, self.validation)

    def ordered_as(self, label_names: Sequence[str], owner: str) -> Splits:
        """The same data with label ids in the order of a model that is trained already.

        Raises:
            DataError: the two label sets differ; names what is missing on either side.
        """
        ours, theirs = set(self.label_names), set(label_names)
        if ours != theirs:
            raise DataError(
                f"the data has {len(ours)} labels, {owner} has {len(theirs)}; only in the data: "
                f"{_some(ours - theirs)}; only in {owner}: {_some(theirs - ours)}. Rename the "
                "labels, or set teacher.fine_tune = true."
            )
        position = {name: index for index, name in enumerate(label_names)}
        table = np.array([position[name] for name in self.label_names], dtype=np.int64)
        moved = {name: replace(self[name], labels=table[self[name].labels]) for name in SPLITS}
        return Splits(tuple(label_names), **moved)


def digest_of(label_names: Sequence[str], splits: Mapping[str, Split]) -> str:
    """SHA-256 over label names and some splits: a changed label retrains what depends on it."""
    content = hashlib.sha256(json.dumps(label_names).encode())
    for name, split in splits.items():
        content.update(json.dumps([name, split.texts, split.labels.tolist()]).encode())
    return content.hexdigest()


def _some(names: set[str], most: int = 5) -> str:
    shown = ", ".join(repr(name) for name in sorted(names)[:most])
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{shown}{more}" if names else "none"
