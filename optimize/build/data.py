"""Any source to :class:`Splits`: texts with checked labels, and a digest of their content."""

from __future__ import annotations

import difflib
import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from optimize.build.sources import SPLITS, DataError, RawSplit, RawSplits, read
from optimize.settings.recipe import DataSettings


class LeakageWarning(UserWarning):
    """Texts of the training split are in an evaluation split too."""


@dataclass(frozen=True)
class Split:
    """Texts and label ids of one split, equally long."""

    texts: tuple[str, ...]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Splits:
    """Checked data.

    Attributes:
        label_names: class names; a label id is a position in it.
        digest: SHA-256 of names, texts and labels.
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

    @property
    def digest(self) -> str:
        """SHA-256 over the content, so that a changed label retrains what depends on it."""
        return self.digest_of(*SPLITS)

    def digest_of(self, *names: str) -> str:
        """SHA-256 over the label names and some of the splits: what a stage that reads them sees.

        No stage that trains or fits reads ``test``, so that its texts are in none of their digests.
        """
        content = hashlib.sha256(json.dumps(self.label_names).encode())
        for name in names:
            split = self[name]
            content.update(json.dumps([name, split.texts, split.labels.tolist()]).encode())
        return content.hexdigest()

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


def load(settings: DataSettings) -> Splits:
    """Read and check the data that the settings name.

    Raises:
        DataError: with file, row, column, value and remedy.

    Warns:
        LeakageWarning: more than ``leakage_warn_share`` of a split's texts are in train.
    """
    return check(read(settings), settings)


def check(raw: RawSplits, settings: DataSettings) -> Splits:
    """Rows as read, made into splits or refused."""
    for split in SPLITS:
        if not raw[split].texts:
            raise DataError(
                f"{raw[split].origin}: the split {split!r} is empty; every split needs examples"
            )
        for row, text, label in zip(
            raw[split].rows, raw[split].texts, raw[split].labels, strict=True
        ):
            _check_text(text, row, raw[split], settings)
            _check_label(label, row, raw[split], settings)
    names = tuple(sorted({str(label) for label in raw["train"].labels}))
    if len(names) < 2:
        raise DataError(
            f"{raw['train'].origin}, column {settings.label_column!r}: every row has the label "
            f"{names[0]!r}; a classifier needs at least two"
        )
    position = {name: index for index, name in enumerate(names)}
    checked = {split: _encode(raw[split], position, settings) for split in SPLITS}
    splits = Splits(names, **checked)
    _warn_of_leakage(splits, raw, settings.leakage_warn_share)
    return splits


def _check_text(text: object, row: int, raw: RawSplit, settings: DataSettings) -> None:
    if not isinstance(text, str):
        raise DataError(
            f"{raw.origin}, row {row}, column {settings.text_column!r}: {text!r} is "
            f"{type(text).__name__}, not a string; delete the row or write it as text"
        )
    if not text.strip():
        raise DataError(
            f"{raw.origin}, row {row}, column {settings.text_column!r}: the text is empty; delete "
            "the row"
        )


def _check_label(label: object, row: int, raw: RawSplit, settings: DataSettings) -> None:
    if isinstance(label, bool) or not isinstance(label, str | int) or not str(label).strip():
        raise DataError(
            f"{raw.origin}, row {row}, column {settings.label_column!r}: label {label!r} is "
            f"{type(label).__name__}; a name or a whole number is needed"
        )


def _encode(raw: RawSplit, position: dict[str, int], settings: DataSettings) -> Split:
    for row, label in zip(raw.rows, raw.labels, strict=True):
        if str(label) not in position:
            closest = difflib.get_close_matches(str(label), position, n=1, cutoff=0.0)[0]
            raise DataError(
                f"{raw.origin}, row {row}, column {settings.label_column!r}: label {label!r} is "
                f"not among the {len(position)} labels of the training split; closest: "
                f"{closest!r}. Correct it, or add training examples."
            )
    labels = np.array([position[str(label)] for label in raw.labels], dtype=np.int64)
    return Split(tuple(raw.texts), labels)


def _warn_of_leakage(splits: Splits, raw: RawSplits, limit: float) -> None:
    seen = {_normalised(text) for text in splits.train.texts}
    for name in ("validation", "test"):
        texts = splits[name].texts
        leaked = [row for row, text in enumerate(texts) if _normalised(text) in seen]
        if len(leaked) > limit * len(texts):
            first = leaked[0]
            warnings.warn(
                f"{raw[name].origin}: {len(leaked)} of {len(texts)} texts "
                f"({len(leaked) / len(texts):.1%}, warned above {limit:.1%}) are in train too, "
                f"first in row {raw[name].rows[first]}: {texts[first]!r}. Scores on {name} are "
                "too good; remove them from train, or raise data.leakage_warn_share.",
                LeakageWarning,
                stacklevel=3,
            )


def _normalised(text: str) -> str:
    return " ".join(text.casefold().split())


def _some(names: set[str], most: int = 5) -> str:
    shown = ", ".join(repr(name) for name in sorted(names)[:most])
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{shown}{more}" if names else "none"
