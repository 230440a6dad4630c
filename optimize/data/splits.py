"""Checked data: texts with label ids, split by split, and a digest of their content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from optimize.problems import MULTI_LABEL, SINGLE_LABEL, ProblemType

SPLITS = ("train", "validation", "test")


class DataError(ValueError):
    """Data that cannot be used; the message names file, row, column and remedy."""


# Label of an example that has none; torch's own default of `ignore_index`.
UNLABELLED = -100


@dataclass(frozen=True)
class Split:
    """Texts and labels of one split, equally long.

    Attributes:
        texts: as written; a pair of texts is one string, see :mod:`optimize.bundle.texts`.
        labels: class ids, shape (texts,); where a text may have several, 1 for each label that it
            has and 0 for the others, shape (texts, labels).
    """

    texts: tuple[str, ...]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class TrainingData:
    """What training and fitting see of the data: the test texts are not in it.

    Attributes:
        label_names: class names; a label id is a position in it.
        pairs: whether each text is a pair.
    """

    label_names: tuple[str, ...]
    train: Split
    validation: Split
    pairs: bool = False

    @cached_property
    def key_part(self) -> str:
        """SHA-256 of names, texts and labels."""
        named = {"train": self.train, "validation": self.validation}
        return digest_of(self.label_names, named, pairs=self.pairs)

    @property
    def multi_label(self) -> bool:
        """Whether a text may have several labels, or none."""
        return self.train.labels.ndim == 2

    @property
    def problem_type(self) -> ProblemType:
        """The same as transformers names it."""
        return MULTI_LABEL if self.multi_label else SINGLE_LABEL


@dataclass(frozen=True)
class Splits:
    """Checked data.

    Attributes:
        label_names: class names; a label id is a position in it.
        pairs: whether each text is a pair.
    """

    label_names: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    pairs: bool = False

    def __getitem__(self, name: str) -> Split:
        if name not in SPLITS:
            raise KeyError(name)
        split: Split = getattr(self, name)
        return split

    @cached_property
    def key_part(self) -> str:
        """SHA-256 of names, texts and labels, the test split's too."""
        named = {name: self[name] for name in SPLITS}
        return digest_of(self.label_names, named, pairs=self.pairs)

    @cached_property
    def training(self) -> TrainingData:
        """The same without the test split."""
        return TrainingData(self.label_names, self.train, self.validation, self.pairs)

    def names_of(self, split: str) -> list[tuple[str, ...]]:
        """The label names of each text of a split: one, or as many as it has."""
        names, labels = self.label_names, self[split].labels
        if labels.ndim == 1:
            return [(names[label],) for label in labels]
        return [tuple(names[label] for label in np.flatnonzero(row)) for row in labels]

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
        columns = np.argsort(table)

        def ordered(labels: NDArray[np.int64]) -> NDArray[np.int64]:
            return table[labels] if labels.ndim == 1 else labels[:, columns]

        moved = {name: replace(self[name], labels=ordered(self[name].labels)) for name in SPLITS}
        return Splits(tuple(label_names), **moved, pairs=self.pairs)


def digest_of(
    label_names: Sequence[str], splits: Mapping[str, Split], *, pairs: bool = False
) -> str:
    """SHA-256 over label names and some splits: a changed label retrains what depends on it."""
    content = hashlib.sha256(json.dumps(label_names).encode())
    if pairs:
        content.update(b"pairs")
    for name, split in splits.items():
        content.update(json.dumps([name, split.texts, split.labels.tolist()]).encode())
    return content.hexdigest()


def _some(names: set[str], most: int = 5) -> str:
    shown = ", ".join(repr(name) for name in sorted(names)[:most])
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{shown}{more}" if names else "none"
