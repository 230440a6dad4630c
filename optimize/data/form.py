"""The format of a source, told by its name and content."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from optimize.data.columns import split_of
from optimize.data.splits import DataError
from optimize.data.tables import SUFFIXES, json_of

CLINC_KEYS = {"train": "train", "validation": "val", "test": "test"}
SAVED_DATASET = "dataset_info.json"
SAVED_SPLITS = "dataset_dict.json"


def form_of(path: Path, names: Collection[str] = ()) -> str:
    """The format that a source's name and content tell.

    Args:
        path: the source.
        names: of the splits that are looked for in a folder, with or without a suffix.

    Raises:
        DataError: they tell none.
    """
    if not path.exists():
        # A Hub id is NAME or OWNER/NAME; anything with a known suffix was meant as a file.
        return "hub" if path.suffix.lower() not in SUFFIXES and len(path.parts) <= 2 else "csv"
    if path.is_dir():
        if (path / SAVED_SPLITS).exists() or (path / SAVED_DATASET).exists():
            return "datasets"
        return _form_in(path, names)
    suffix = path.suffix.lower()
    if suffix == ".json":
        content = json_of(path)
        if not isinstance(content, dict) or holds_records(content):
            return "json"
        return "clinc" if any(key in content for key in CLINC_KEYS.values()) else "json"
    if suffix in SUFFIXES:
        return SUFFIXES[suffix]
    raise DataError(
        f"cannot tell the format of {path} by its name; let it end in {', '.join(SUFFIXES)}, or "
        f"set data.format to one of {', '.join(SUFFIXES.values())}, datasets, clinc, hub"
    )


def _form_in(folder: Path, names: Collection[str]) -> str:
    """The format of the files of a folder that are splits; of what lies beside them, if none is."""
    files = {path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES}
    wanted = {path for path in files if path.name in names or path.stem in names}
    usual = {path for path in files if split_of(path.stem) == "train"}
    for chosen in (wanted, usual, files):
        forms = {SUFFIXES[path.suffix.lower()] for path in chosen}
        # Each table has many splits; where several forms have some, the first that we name.
        found = next((form for form in SUFFIXES.values() if form in forms), None)
        if found is not None:
            return found
    raise DataError(
        f"{folder} holds no {', '.join(SUFFIXES)} file and is not a saved `datasets` folder"
    )


def holds_records(content: dict[str, Any]) -> bool:
    """Whether a JSON object has arrays of records, as ``{"train": [{…}, …], …}``."""
    return any(
        isinstance(rows, list) and bool(rows) and isinstance(rows[0], dict)
        for rows in content.values()
    )
