"""Sources: a file, a folder or a Hub id becomes the rows of every split, unchecked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from optimize.data.class_names import named
from optimize.data.faults import Faults
from optimize.data.form import CLINC_KEYS, form_of, holds_records
from optimize.data.separated import check_columns
from optimize.data.splits import DataError
from optimize.data.tables import READERS, SUFFIXES, Reading, json_of, records_of, text_of
from optimize.settings.data import DataSettings

SHARES_REMEDY = "data.validation = 0.1 and data.test = 0.2 take shares of the training rows"


@dataclass
class RawSplit:
    """Rows as read, unchecked.

    Attributes:
        origin: file (and split) that the rows came from, for messages.
        rows: number of each row in its file as a person would count it, from 1.
        texts: the text column.
        labels: the label column.
    """

    origin: str
    rows: list[int] = field(default_factory=list)
    texts: list[Any] = field(default_factory=list)
    labels: list[Any] = field(default_factory=list)

    def add(self, row: int, text: Any, label: Any) -> None:
        """Append one row."""
        self.rows.append(row)
        self.texts.append(text)
        self.labels.append(label)

    def picked(self, places: list[int]) -> RawSplit:
        """Some of the rows, by their place here."""
        return RawSplit(
            self.origin,
            [self.rows[place] for place in places],
            [self.texts[place] for place in places],
            [self.labels[place] for place in places],
        )


RawSplits = dict[str, RawSplit]


def _text_in(cells: Mapping[str, Any], settings: DataSettings) -> Any:
    """The text of a row, or its pair."""
    if settings.text_pair_column is None:
        return cells[settings.text_column]
    return cells[settings.text_column], cells[settings.text_pair_column]


def read(settings: DataSettings, faults: Faults) -> RawSplits:
    """Read the source that the settings name, in the format they give or its name tells.

    A split that the settings give as a share is not among the result; see
    :func:`optimize.data.shares.with_shares`.

    Args:
        settings: the source, its columns and splits.
        faults: told the rows that cannot be used; whoever asks for the rows refuses them.

    Raises:
        DataError: no such source, unreadable, or without the columns or splits asked for.
    """
    if settings.source == "sample":
        with resources.as_file(resources.files("optimize") / "sample" / "intents.jsonl") as path:
            return _read_one_file(path, "jsonl", settings, faults)
    path = Path(settings.source)
    told = settings.format != "auto"
    form = settings.format if told else form_of(path, settings.named_splits)
    if form == "hub":
        return _read_hub(settings)
    if not path.exists():
        raise DataError(
            f"data.source {settings.source!r} does not exist; give a file, a folder, or a Hub id "
            'with format = "hub"'
        )
    if form == "clinc":
        return _read_clinc(path, settings)
    if form == "datasets":
        return _read_datasets_folder(path, settings)
    if path.is_dir():
        return _read_folder(path, form, settings, faults)
    return _read_one_file(path, form, settings, faults)


def _read_folder(folder: Path, form: str, settings: DataSettings, faults: Faults) -> RawSplits:
    if form not in READERS:
        raise DataError(f"{folder} is a folder, which data.format = {form!r} cannot be")
    suffix = next(suffix for suffix, name in SUFFIXES.items() if name == form)
    columns = (*settings.text_columns, settings.label_column)
    splits: RawSplits = {}
    files: dict[Path, str] = {}
    for name, split in settings.named_splits.items():
        path = next((p for p in (folder / name, folder / f"{name}{suffix}") if p.is_file()), None)
        if path is None:
            there = ", ".join(sorted(path.name for path in folder.iterdir()))
            raise DataError(
                f"{folder} has no {name}{suffix} for the split {split!r} (there: {there}); name it "
                f"in data.{split}, or say with data.format which files are read"
                + ("" if split == "train" else f"; or {SHARES_REMEDY}")
            )
        files.setdefault(path.resolve(), split)
        if files[path.resolve()] != split:
            raise DataError(
                f"{path} is the file of {files[path.resolve()]} and of {split}: two splits are the "
                f"same rows; name another in data.{split}"
            )
        splits[split] = RawSplit(path.name)
        for row, cells in READERS[form](path, Reading(columns, settings.quoting, faults)):
            splits[split].add(row, _text_in(cells, settings), cells[settings.label_column])
    return splits


def _read_one_file(path: Path, form: str, settings: DataSettings, faults: Faults) -> RawSplits:
    """One file that holds every split; the column ``split_column`` says which.

    Where validation and test are shares, all of it is one pool, and the column is not looked at.
    """
    names = settings.named_splits
    content = json_of(path) if form == "json" else None
    if isinstance(content, dict) and holds_records(content):
        return _read_split_object(path, content, settings, faults)
    if len(names) == 1:
        pool = RawSplit(path.name)
        columns: tuple[str, ...] = (*settings.text_columns, settings.label_column)
        for row, cells in READERS[form](path, Reading(columns, settings.quoting, faults)):
            pool.add(row, _text_in(cells, settings), cells[settings.label_column])
        return {"train": pool}
    columns = (*settings.text_columns, settings.label_column, settings.split_column)
    splits = {split: RawSplit(f"{path.name}, split {name!r}") for name, split in names.items()}
    try:
        rows = list(READERS[form](path, Reading(columns, settings.quoting, faults)))
    except DataError as error:
        if f"no column {settings.split_column!r}" not in str(error):
            raise
        raise DataError(f"{error}; or, where there is none: {SHARES_REMEDY}") from None
    for row, cells in rows:
        name = cells[settings.split_column]
        if not isinstance(name, str) or name not in names:
            faults.add(
                f"{path.name}, row {row}, column {settings.split_column!r}: split {name!r} is not "
                f"one of {', '.join(names)}; correct it, or set data.train, data.validation and "
                "data.test to the names that the file uses"
            )
            continue
        splits[names[name]].add(row, _text_in(cells, settings), cells[settings.label_column])
    return splits


def _read_split_object(
    path: Path, content: dict[str, Any], settings: DataSettings, faults: Faults
) -> RawSplits:
    """One JSON object whose keys are splits, each an array of records."""
    how = Reading((*settings.text_columns, settings.label_column), faults=faults)
    splits: RawSplits = {}
    for name, split in settings.named_splits.items():
        rows = content.get(name)
        if not isinstance(rows, list):
            raise DataError(
                f"{path.name} has no array {name!r} (its keys: {', '.join(content)}); name it in "
                f"data.{split}" + ("" if split == "train" else f"; or {SHARES_REMEDY}")
            )
        splits[split] = RawSplit(f"{path.name}, {name}")
        for row, cells in records_of(rows, f"{path.name}, {name}", how):
            splits[split].add(row, _text_in(cells, settings), cells[settings.label_column])
    return splits


def _read_clinc(path: Path, settings: DataSettings) -> RawSplits:
    """CLINC150's own layout (Larson et al. 2019), with keys ``train``, ``oos_train`` and so on."""
    try:
        content = json.loads(text_of(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path.name} is not JSON: {error}") from None
    splits: RawSplits = {}
    for split in settings.named_splits.values():
        key = CLINC_KEYS[split]
        if not isinstance(content, dict) or key not in content:
            raise DataError(f"{path.name} has no key {key!r}: it is not CLINC150's JSON layout")
        splits[split] = RawSplit(f"{path.name}, {key}")
        # In scope, then out of scope: the order of the teacher's logits published with it.
        for row, pair in enumerate(
            [*_pairs(path, content, key), *_pairs(path, content, f"oos_{key}")], start=1
        ):
            if not isinstance(pair, list) or len(pair) != 2:
                raise DataError(f"{path.name}, {key}, row {row}: [text, label] is needed")
            splits[split].add(row, *pair)
    return splits


def _pairs(path: Path, content: dict[str, Any], key: str) -> list[Any]:
    pairs = content.get(key, [])
    if not isinstance(pairs, list):
        raise DataError(
            f"{path.name}, key {key!r}: a list of [text, label] is needed, not "
            f"{json.dumps(pairs)[:40]}"
        )
    return pairs


def _read_datasets_folder(path: Path, settings: DataSettings) -> RawSplits:
    import datasets

    try:
        loaded = datasets.load_from_disk(str(path))
    except Exception as error:  # pyarrow's, JSON's and the library's own have no common base
        raise DataError(
            f"{path} is not a whole saved `datasets` folder: {type(error).__name__}: {error}"
        ) from error
    return _from_datasets(loaded, path.name, settings)


def _read_hub(settings: DataSettings) -> RawSplits:
    import datasets

    try:
        loaded = datasets.load_dataset(settings.source, settings.config, revision=settings.revision)
    except Exception as error:  # the Hub client's errors have no common base class
        raise DataError(
            f"the Hub data set {settings.source!r} (configuration {settings.config}, revision "
            f"{settings.revision}) cannot be loaded: {error}. Check the name and the network, or "
            "give a local file."
        ) from error
    return _from_datasets(loaded, settings.source, settings)


def _from_datasets(loaded: Any, origin: str, settings: DataSettings) -> RawSplits:
    """The splits of a DatasetDict; a single Dataset is one table, as a file is."""
    wanted = settings.named_splits
    if hasattr(loaded, "column_names") and isinstance(loaded.column_names, list):
        return _from_one_dataset(loaded, origin, settings)
    splits: RawSplits = {}
    for name, split in wanted.items():
        if name not in loaded:
            raise DataError(
                f"{origin} has no split {name!r} (its splits: {', '.join(loaded)}); name it in "
                f"data.{split}" + ("" if split == "train" else f"; or {SHARES_REMEDY}")
            )
        splits[split] = RawSplit(f"{origin}, split {name!r}")
        rows = _rows_of(loaded[name], f"{origin}/{name}", settings, ())
        for row, cells in enumerate(rows, start=1):
            splits[split].add(row, _text_in(cells, settings), cells[settings.label_column])
    return splits


def _from_one_dataset(table: Any, origin: str, settings: DataSettings) -> RawSplits:
    wanted = settings.named_splits
    if len(wanted) > 1 and settings.split_column not in table.column_names:
        raise DataError(
            f"{origin} is one saved Dataset without splits, and it has no column "
            f"{settings.split_column!r} that names them (its columns: "
            f"{', '.join(table.column_names)}): {SHARES_REMEDY}; or save a DatasetDict"
        )
    by_column = (settings.split_column,) if len(wanted) > 1 else ()
    splits = {split: RawSplit(f"{origin}, split {name!r}") for name, split in wanted.items()}
    rows = _rows_of(table, origin, settings, by_column)
    for row, cells in enumerate(rows, start=1):
        name = cells[settings.split_column] if by_column else settings.train
        if name not in wanted:
            raise DataError(
                f"{origin}, row {row}, column {settings.split_column!r}: split {name!r} is not one "
                f"of {', '.join(wanted)}"
            )
        splits[wanted[name]].add(row, _text_in(cells, settings), cells[settings.label_column])
    return splits


def _rows_of(
    table: Any, origin: str, settings: DataSettings, more: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    columns = (*settings.text_columns, settings.label_column, *more)
    check_columns(origin, table.column_names, columns)
    # A ClassLabel column, or a list of them, stores ids; its feature knows the names.
    features = {name: table.features[name] for name in columns}
    names = {
        name: getattr(getattr(feature, "feature", feature), "names", None)
        for name, feature in features.items()
    }
    cells = [[named(value, names[column]) for value in table[column]] for column in columns]
    for row in zip(*cells, strict=True):
        yield dict(zip(columns, row, strict=True))
