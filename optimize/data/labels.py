"""Labels as they are written: which are none, and which ways of writing mean the same."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import islice
from typing import Any
from unicodedata import normalize

from optimize.data.class_names import NoClass
from optimize.problems import MULTI_LABEL

# No number begins with zeros: "007" is a code, and another one than "7".
WHOLE = re.compile(r"[+-]?(0|[1-9]\d*)(\.0*)?")


def fault_of(label: Any) -> str:
    """Why this is no label, or nothing."""
    if isinstance(label, NoClass):
        return (
            f"label {label.value!r} is none of the {label.classes} of its ClassLabel, which has "
            f"ids from 0 to {label.classes - 1}; delete the row, or give it a label"
        )
    if isinstance(label, float):
        return _fault_of_float(label)
    if isinstance(label, list | tuple | dict):
        return (
            f"label {label!r} is a {type(label).__name__}; one label a text is needed. Where a "
            f'text has several, set data.problem_type = "{MULTI_LABEL}"'
        )
    if isinstance(label, str) and not label.strip():
        return "the label is empty; delete the row, or give it a label"
    if isinstance(label, bool) or not isinstance(label, str | int):
        return f"label {label!r} is {type(label).__name__}; a name or a whole number is needed"
    return ""


def fault_of_list(labels: Any) -> str:
    """Why these are not the labels of a text that may have several, or none; or nothing."""
    if not isinstance(labels, list | tuple):
        return (
            f"label {labels!r} is {type(labels).__name__}; with data.problem_type = "
            f'"{MULTI_LABEL}" a list of labels is needed, as JSON Lines, Parquet and datasets '
            "hold it: [] where a text has none"
        )
    return next(filter(None, map(fault_of, labels)), "")


def _fault_of_float(label: float) -> str:
    if math.isnan(label):
        return "the label is missing (NaN); delete the row, or give it a label"
    if not label.is_integer():
        return (
            f"label {label!r} is not whole; a classifier needs classes, and regression is not what "
            "this trains"
        )
    return ""


def as_names(labels: Iterable[Iterable[Any]]) -> list[list[str]]:
    """The labels of each split as names.

    Where every label of every split is a whole number, however it is written (3, "3", 3.0, "3.0",
    as a column of whole numbers becomes where a value is missing), all are written the same way.
    """
    splits = [list(split) for split in labels]
    written = {str(label) for split in splits for label in split}
    if all(WHOLE.fullmatch(label) for label in written):
        return [[str(int(str(label).partition(".")[0])) for label in split] for split in splits]
    return [[str(label) for label in split] for split in splits]


def as_name_lists(labels: Iterable[Iterable[Iterable[Any]]]) -> list[list[list[str]]]:
    """The same where each text has a list of labels."""
    splits = [[list(row) for row in split] for split in labels]
    flat = as_names([label for row in split for label in row] for split in splits)
    found = []
    for split, names in zip(splits, map(iter, flat), strict=True):
        found.append([list(islice(names, len(row))) for row in split])
    return found


def alike(names: Iterable[str]) -> list[Counter[str]]:
    """Labels that differ by white space, case or Unicode's forms alone, with their counts."""
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for name in names:
        groups[" ".join(normalize("NFKC", name).casefold().split())][name] += 1
    return [group for group in groups.values() if len(group) > 1]
