"""Which columns of a table hold texts, labels and splits, as its names and values suggest."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimize.data.faults import Faults
from optimize.data.separated import SEPARATORS, header_names
from optimize.data.splits import DataError
from optimize.data.tables import READERS, Reading, json_of, text_of

# What columns and splits are commonly called.
TEXT_NAMES = ("text", "utterance", "sentence", "query", "question", "message", "content", "review")
# Two columns that make a pair of texts.
PAIR_NAMES = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("sentence_1", "sentence_2"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("query", "passage"),
    ("question", "sentence"),
    ("text", "text_pair"),
)
LABEL_NAMES = ("label", "intent", "category", "class", "target", "labels", "topic", "sentiment")
# What a column is called that says which split a row is in.
SPLIT_COLUMNS = ("split", "splits", "set", "partition", "subset", "fold")
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing", "holdout"),
}
Table = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Columns:
    """What the columns of a table seem to be.

    Attributes:
        text: holds the texts.
        pair: holds the second texts of pairs, where there are pairs.
        label: holds the labels.
        split: says which split a row is in, where one does.
        splits: what it calls each split, by our name.
        several: whether labels are lists, so that a text may have several.
    """

    text: str
    label: str
    pair: str | None = None
    split: str | None = None
    splits: Mapping[str, str] | None = None
    several: bool = False


def table_of(path: Path, form: str) -> Table:
    """A file's rows, by column; all of them, since files are often sorted by split.

    Raises:
        DataError: it cannot be read.
    """
    names = _names_in(path, form)
    faults = Faults()
    rows = READERS[form](path, Reading(tuple(names), faults=faults))
    found: dict[str, list[Any]] = {name: [] for name in names}
    for _, cells in rows:
        for name in names:
            found[name].append(cells[name])
    if not any(found.values()):  # nothing to guess by; single rows are told when they are loaded
        faults.refuse()
    return found


def guess(table: Table, origin: str) -> Columns:
    """What the columns seem to be.

    Raises:
        DataError: none looks like texts, or none like labels; or a split is written in another way.
    """
    if not any(table.values()):
        raise DataError(f"{origin} has a header, {', '.join(table)}, and no rows below it")
    split, splits = _split_column(table, origin)
    left = {name: values for name, values in table.items() if name != split and any(values)}
    text, pair = _pair(left)
    text = text or _named(left, TEXT_NAMES) or _longest(left)
    labels = {name: values for name, values in left.items() if name not in (text, pair)}
    label = _named(labels, LABEL_NAMES) or _fewest(labels)
    if text is None or label is None:
        raise DataError(
            f"{origin}: none of the columns {', '.join(table)} looks like "
            f"{'texts' if text is None else 'labels'}; write data.text_column and "
            "data.label_column by hand"
        )
    several = all(isinstance(value, list) for value in table[label])
    return Columns(text, label, pair, split, splits, several)


def _pair(table: Table) -> tuple[str | None, str | None]:
    """Two columns of texts that are named as a pair, if there are."""
    lowered = {name.casefold(): name for name in table}
    for first, second in PAIR_NAMES:
        if first in lowered and second in lowered:
            return lowered[first], lowered[second]
    return None, None


def split_of(name: str) -> str | None:
    """Which of our splits a name commonly stands for."""
    lowered = name.strip().casefold()
    return next((ours for ours, names in SPLIT_NAMES.items() if lowered in names), None)


def _names_in(path: Path, form: str) -> list[str]:
    if form == "parquet":
        import pyarrow.parquet

        try:
            return list(pyarrow.parquet.read_schema(path).names)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{path.name} is not Parquet: {error}") from None
    if form in ("csv", "tsv"):
        text = text_of(path)
        if not text.strip():
            raise DataError(f"{path.name} is empty; it needs a header row, and rows below it")
        tried = SEPARATORS if form == "csv" else ("\t",)
        names = max((header_names(text, each) for each in tried), key=len)
        return [name for name in names if name and names.count(name) == 1]
    content = json_of(path) if form == "json" else None
    if isinstance(content, dict):
        if any(split_of(key) for key in content):
            raise DataError(
                f"{path.name} is a JSON object of splits; write data.train, data.validation and "
                f"data.test by hand, of its keys {', '.join(list(content)[:8])}"
            )
        raise DataError(
            f"{path.name} is a JSON object with the keys {', '.join(list(content)[:8])}; a list of "
            'records is needed, as [{"text": "…", "label": "…"}], or an object of such lists, one '
            "a split"
        )
    try:
        first = content[0] if content else json.loads(text_of(path).split("\n", 1)[0])
    except (ValueError, LookupError, TypeError, RecursionError):
        first = None
    if not isinstance(first, dict):
        raise DataError(f"{path.name} does not begin with a record, as {{…}}")
    return list(first)


def _split_column(table: Table, origin: str) -> tuple[str | None, dict[str, str] | None]:
    for name, values in table.items():
        written = Counter(str(value) for value in values)
        ours = {each: split_of(each) for each in written}
        named = name.strip().casefold() in SPLIT_COLUMNS
        if len(written) > 1 and all(ours.values()) and len(set(ours.values())) == len(ours):
            return name, {str(split): each for each, split in ours.items()}
        if len(written) > 1 and named and any(ours.values()):
            _refuse_splits(name, written, origin)
    return None, None


def _refuse_splits(column: str, written: Counter[str], origin: str) -> None:
    """A column of splits with a slip in it: without it, texts that are for testing were learnt."""
    strange = [each for each in written if split_of(each) is None]
    shown = ", ".join(f"{each!r} ({written[each]} rows)" for each in strange[:5] or written)
    what = "values that name none" if strange else "several values for one split"
    raise DataError(
        f"{origin}: the column {column!r} says which split a row is in, and has {what}: {shown}. "
        "Write train, validation and test; or rename the column, and shares of all rows are taken"
    )


def _named(table: Table, names: Sequence[str]) -> str | None:
    lowered = {name.casefold(): name for name in table}
    return next((lowered[name] for name in names if name in lowered), None)


def _longest(table: Table) -> str | None:
    """The column of the longest strings."""
    means = {
        name: sum(map(len, values)) / len(values)
        for name, values in table.items()
        if values and all(isinstance(value, str) for value in values)
    }
    return max(means, key=lambda name: means[name], default=None)


def _fewest(table: Table) -> str | None:
    """The column of the fewest values that come back."""
    counts = {name: len(set(map(str, values))) for name, values in table.items()}
    possible = {name: n for name, n in counts.items() if 1 < n <= max(2, len(table[name]) // 2)}
    return min(possible, key=lambda name: possible[name], default=None)
