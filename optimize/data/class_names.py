"""Label names that the `datasets` library keeps beside ids, in a feature of type ClassLabel."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NoClass:
    """An id that stands for none of the classes.

    Attributes:
        value: the id; -1 or nothing is what `datasets` gives a row without a label.
        classes: how many there are.
    """

    value: Any
    classes: int


def class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, Sequence[str]]:
    """Names by column, from the metadata that `datasets` writes into a Parquet file."""
    with suppress(ValueError, TypeError, AttributeError, KeyError):
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {
            column: inner["names"]
            for column, feature in features.items()
            if isinstance(inner := _inner(feature), dict) and inner.get("_type") == "ClassLabel"
        }
    return {}


def _inner(feature: Any) -> Any:
    """What a feature holds, or its list; ``datasets`` writes a list in several ways."""
    if isinstance(feature, list) and len(feature) == 1:
        return feature[0]
    return feature.get("feature", feature) if isinstance(feature, dict) else feature


def named(value: Any, names: Sequence[str] | None) -> Any:
    """The name of a class id, or :class:`NoClass`; what has no names stays as it is.

    Of a list of ids, the list of names.
    """
    if names is not None and isinstance(value, list):
        return [named(each, names) for each in value]
    if names is None or isinstance(value, str):
        return value
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return NoClass(value, len(names))
