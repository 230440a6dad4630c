"""Any source to :class:`Splits`: texts with checked labels, and a digest of their content."""

from __future__ import annotations

import difflib
import warnings

import numpy as np

from optimize.data.sources import RawSplit, RawSplits, read
from optimize.data.splits import SPLITS, DataError, Split, Splits
from optimize.settings.recipe import DataSettings


class LeakageWarning(UserWarning):
    """Texts of the training split are in an evaluation split too."""


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
