"""Any source to :class:`Splits`: texts with checked labels, and a digest of their content."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from optimize.bundle.texts import joined, pair_fault, shown, surrogate_fault
from optimize.data import labels as label_rules
from optimize.data import texts as text_rules
from optimize.data.faults import Faults
from optimize.data.separated import DataWarning
from optimize.data.shares import with_shares
from optimize.data.sources import RawSplit, RawSplits, read
from optimize.data.splits import SPLITS, DataError, Split, Splits
from optimize.data.unlabelled import OwnTexts
from optimize.settings.data import DataSettings

# The label names of each row.
Names = list[list[str]]


class LeakageWarning(UserWarning):
    """Texts of one split are in another one too."""


class LabelWarning(DataWarning):
    """Labels that may be the same one, written in several ways."""


def load(settings: DataSettings) -> Splits:
    """Read and check the data that the settings name.

    Raises:
        DataError: with file, row, column, value and remedy, for the first twenty rows.

    Warns:
        LeakageWarning: two splits have more than ``leakage_warn_share`` of their texts in common.
        LabelWarning: labels differ by white space or case alone.
    """
    faults = Faults()
    return check(read(settings, faults), settings, faults)


def check(raw: RawSplits, settings: DataSettings, faults: Faults | None = None) -> Splits:
    """Rows as read, made into splits or refused.

    Args:
        raw: the rows of every split that the data has.
        settings: names of the columns, and shares.
        faults: what reading found.
    """
    faults = faults or Faults()
    _refuse_empty(raw, faults)
    for rows in raw.values():
        _check_rows(rows, settings, faults)
    faults.refuse()
    if settings.text_pair_column is not None:
        for rows in raw.values():
            rows.texts = [joined(*pair) for pair in rows.texts]
    raw = with_shares(raw, settings)
    _refuse_empty(raw, faults)
    found = label_rules.as_name_lists(
        (labels if settings.multi_label else [labels] for labels in raw[split].labels)
        for split in SPLITS
    )
    by_split = dict(zip(SPLITS, found, strict=True))
    names = tuple(sorted({name for row in by_split["train"] for name in row}))
    if len(names) < 2:
        raise DataError(
            f"{raw['train'].origin}, column {settings.label_column!r}: every row has the label "
            f"{names[0]!r}{', or none' if settings.multi_label else ''}; a classifier needs at "
            "least two"
            if names
            else f"{raw['train'].origin}, column {settings.label_column!r}: no row has a label"
        )
    _check_known(raw, by_split, settings, faults)
    faults.refuse()
    position = {name: index for index, name in enumerate(names)}
    encoded = _encoded_sets if settings.multi_label else _encoded
    splits = Splits(
        names,
        **{split: encoded(raw[split], by_split[split], position) for split in SPLITS},
        pairs=settings.text_pair_column is not None,
    )
    _check_out_of_scope(names, settings)
    _warn_of_spellings(by_split, raw)
    _warn_of_leakage(splits, raw, settings.leakage_warn_share)
    return splits


def _refuse_empty(raw: RawSplits, faults: Faults) -> None:
    for split, rows in raw.items():
        if not rows.texts:
            faults.refuse()  # the rows may be there, and unusable
            raise DataError(
                f"{rows.origin}: the split {split!r} is empty; every split needs examples"
            )


def _check_rows(rows: RawSplit, settings: DataSettings, faults: Faults) -> None:
    columns = settings.text_columns
    label_fault = label_rules.fault_of_list if settings.multi_label else label_rules.fault_of
    for row, given, label in zip(rows.rows, rows.texts, rows.labels, strict=True):
        texts = given if len(columns) > 1 else (given,)
        told = [
            *zip(columns, map(text_rules.fault_of, texts), strict=True),
            *zip(columns, map(_mark_in, texts if len(columns) > 1 else ("",)), strict=True),
            (settings.label_column, label_fault(label)),
            *((settings.label_column, surrogate_fault(str(each))) for each in _each(label)),
        ]
        for column, fault in told:
            if fault:
                faults.add(f"{rows.origin}, row {row}, column {column!r}: {fault}")
                break


def _each(label: Any) -> Sequence[Any]:
    """The labels of a row: one, or several."""
    return label if isinstance(label, list | tuple) else (label,)


def _mark_in(text: Any) -> str:
    return pair_fault(text) if isinstance(text, str) else ""


def _check_known(
    raw: RawSplits, by_split: Mapping[str, Names], settings: DataSettings, faults: Faults
) -> None:
    """Every label of validation and test must be one of training."""
    known = dict.fromkeys(chain.from_iterable(by_split["train"]))
    closest: dict[str, str] = {}
    for split in SPLITS[1:]:
        for row, labels in zip(raw[split].rows, by_split[split], strict=True):
            label = next((each for each in labels if each not in known), None)
            if label is None:
                continue
            if label not in closest:
                closest[label] = difflib.get_close_matches(label, known, n=1, cutoff=0.0)[0]
            faults.add(
                f"{raw[split].origin}, row {row}, column {settings.label_column!r}: label "
                f"{label!r} is not among the {len(known)} labels of the training split; closest: "
                f"{closest[label]!r}. Correct it, or add training examples."
            )


def _encoded(rows: RawSplit, labels: Names, position: Mapping[str, int]) -> Split:
    ids = np.array([position[label] for (label,) in labels], dtype=np.int64)
    return Split(tuple(rows.texts), ids)


def _encoded_sets(rows: RawSplit, labels: Names, position: Mapping[str, int]) -> Split:
    has = np.zeros((len(labels), len(position)), dtype=np.int64)
    for row, names in enumerate(labels):
        has[row, [position[name] for name in names]] = 1
    return Split(tuple(rows.texts), has)


def _check_out_of_scope(names: tuple[str, ...], settings: DataSettings) -> None:
    label = settings.out_of_scope_label
    if label is None or label in names:
        return
    closest = difflib.get_close_matches(label, names, n=1, cutoff=0.0)[0]
    raise DataError(
        f"data.out_of_scope_label {label!r} is the label of no training text; closest: "
        f"{closest!r}. Correct it, or leave it out."
    )


def _warn_of_spellings(by_split: Mapping[str, Names], raw: RawSplits) -> None:
    """One label in two spellings is two classes that nothing can tell apart."""
    rows = chain.from_iterable(by_split.values())
    for group in label_rules.alike(chain.from_iterable(rows)):
        counts = ", ".join(f"{name!r} {count} times" for name, count in group.most_common())
        warnings.warn(
            f"{raw['train'].origin}: labels that differ by white space, case or Unicode's forms "
            f"alone are classes of their own: {counts}. Write them the same way where they mean "
            "the same.",
            LabelWarning,
            stacklevel=3,
        )


def _warn_of_leakage(splits: Splits, raw: RawSplits, limit: float) -> None:
    for name, other in (("validation", "train"), ("test", "train"), ("test", "validation")):
        seen = {text_rules.normalised(text) for text in splits[other].texts}
        texts = splits[name].texts
        leaked = [row for row, text in enumerate(texts) if text_rules.normalised(text) in seen]
        if len(leaked) > limit * len(texts):
            first = leaked[0]
            warnings.warn(
                f"{raw[name].origin}: {len(leaked)} of {len(texts)} texts "
                f"({len(leaked) / len(texts):.1%}, warned above {limit:.1%}) are in {other} too, "
                f"first in row {raw[name].rows[first]}: {shown(texts[first])!r}. Scores on {name} "
                f"are too good; remove them from {other}, or raise data.leakage_warn_share.",
                LeakageWarning,
                stacklevel=3,
            )


def warn_of_judged_texts(splits: Splits, own: OwnTexts, limit: float) -> None:
    """A student that learned the teacher's answers on judged texts seems nearer to it than it is.

    They are told and not left out: what is trained must not hang on the test split.

    Args:
        splits: the recipe's data.
        own: texts that the student learns from beside the training split's.
        limit: share of a split's texts up to which nothing is said.

    Warns:
        LeakageWarning: more of validation's or test's texts are among them.
    """
    judged = {name: splits[name].texts for name in ("validation", "test")}
    wanted = {text_rules.normalised(text) for texts in judged.values() for text in texts}
    # Of a file that may have millions of texts only these are kept.
    added = wanted.intersection(map(text_rules.normalised, own.texts()))
    for name, texts in judged.items():
        leaked = [text for text in texts if text_rules.normalised(text) in added]
        if len(leaked) > limit * len(texts):
            warnings.warn(
                f"distill.transfer {own.source!r}: {len(leaked)} of {len(texts)} texts of {name} "
                f"({len(leaked) / len(texts):.1%}, warned above {limit:.1%}) are in it, first "
                f"{shown(leaked[0])!r}. The student learns the teacher's answers to them, so that "
                f"its drop on {name} is too small; remove them from the file, or raise "
                "data.leakage_warn_share.",
                LeakageWarning,
                stacklevel=2,
            )
