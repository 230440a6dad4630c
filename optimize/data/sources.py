"""Sources: a file, a folder or a Hub id becomes the rows of every split, unchecked."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from optimize.data.splits import SPLITS, DataError
from optimize.data.tables import READERS, SUFFIXES, check_columns, text_of
from optimize.settings.recipe import DataSettings


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


RawSplits = dict[str, RawSplit]


def read(settings: DataSettings) -> RawSplits:
    """Read the source that the settings name, in the format they give or its name tells.

    Raises:
        DataError: no such source, unreadable, or without the columns or splits asked for.
    """
    if settings.source == "sample":
        with resources.as_file(resources.files("optimize") / "sample" / "intents.jsonl") as path:
            return _read_one_file(path, "jsonl", settings)
    path = Path(settings.source)
    form = settings.format if settings.format != "auto" else _guess(path)
    if form == "hub":
        return _read_hub(settings)
    if not path.exists():
        raise DataError(
            f"data.source {settings.source!r} does not exist; give a file, a folder, or a Hub id "
            'with format = "hub"'
        )
    if form == "clinc":
        return _read_clinc(path)
    if form == "datasets":
        return _read_datasets_folder(path, settings)
    if path.is_dir():
        return _read_folder(path, form, settings)
    return _read_one_file(path, form, settings)


def _guess(path: Path) -> str:
    if not path.exists():
        # A Hub id is NAME or OWNER/NAME; anything with a known suffix was meant as a file.
        return "hub" if path.suffix not in {*SUFFIXES, ".json"} and len(path.parts) <= 2 else "csv"
    if path.is_dir():
        if (path / "dataset_dict.json").exists():
            return "datasets"
        for suffix, form in SUFFIXES.items():
            if any(path.glob(f"*{suffix}")):
                return form
        raise DataError(
            f"{path} holds no {', '.join(SUFFIXES)} file and is not a saved `datasets` folder"
        )
    if path.suffix == ".json":
        return "clinc"
    if path.suffix in SUFFIXES:
        return SUFFIXES[path.suffix]
    raise DataError(
        f"cannot tell the format of {path} by its name; set data.format to one of csv, tsv, "
        "jsonl, parquet, datasets, clinc, hub"
    )


def _read_folder(folder: Path, form: str, settings: DataSettings) -> RawSplits:
    suffix = next(suffix for suffix, name in SUFFIXES.items() if name == form)
    splits: RawSplits = {}
    for split in SPLITS:
        name = getattr(settings, split)
        path = next((p for p in (folder / name, folder / f"{name}{suffix}") if p.is_file()), None)
        if path is None:
            raise DataError(
                f"{folder} has no {name}{suffix} for the split {split!r} (there: "
                f"{', '.join(sorted(p.name for p in folder.iterdir()))}); name it in data.{split}"
            )
        splits[split] = RawSplit(path.name)
        for row, cells in READERS[form](path, (settings.text_column, settings.label_column)):
            splits[split].add(row, cells[settings.text_column], cells[settings.label_column])
    return splits


def _read_one_file(path: Path, form: str, settings: DataSettings) -> RawSplits:
    """One file that holds every split; the column ``split_column`` says which."""
    columns = (settings.text_column, settings.label_column, settings.split_column)
    names = {getattr(settings, split): split for split in SPLITS}
    splits = {split: RawSplit(f"{path.name}, split {name!r}") for name, split in names.items()}
    for row, cells in READERS[form](path, columns):
        name = cells[settings.split_column]
        if name not in names:
            raise DataError(
                f"{path.name}, row {row}, column {settings.split_column!r}: split {name!r} is not "
                f"one of {', '.join(names)}; correct it, or set data.train, data.validation and "
                "data.test to the names that the file uses"
            )
        text, label = cells[settings.text_column], cells[settings.label_column]
        splits[names[name]].add(row, text, label)
    return splits


def _read_clinc(path: Path) -> RawSplits:
    """CLINC150's own layout (Larson et al. 2019), with keys ``train``, ``oos_train`` and so on."""
    try:
        content = json.loads(text_of(path))
    except ValueError as error:
        raise DataError(f"{path.name} is not JSON: {error}") from None
    splits: RawSplits = {}
    for split, key in (("train", "train"), ("validation", "val"), ("test", "test")):
        if not isinstance(content, dict) or key not in content:
            raise DataError(f"{path.name} has no key {key!r}: it is not CLINC150's JSON layout")
        splits[split] = RawSplit(f"{path.name}, {key}")
        # In scope, then out of scope: the order of the teacher's logits published with it.
        pairs = [*content[key], *content.get(f"oos_{key}", [])]
        for row, pair in enumerate(pairs, start=1):
            if not isinstance(pair, list) or len(pair) != 2:
                raise DataError(f"{path.name}, {key}, row {row}: [text, label] is needed")
            splits[split].add(row, *pair)
    return splits


def _read_datasets_folder(path: Path, settings: DataSettings) -> RawSplits:
    import datasets

    return _from_datasets(datasets.load_from_disk(str(path)), path.name, settings)


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
    splits: RawSplits = {}
    for split in SPLITS:
        name = getattr(settings, split)
        if name not in loaded:
            raise DataError(
                f"{origin} has no split {name!r} (its splits: {', '.join(loaded)}); name it in "
                f"data.{split}"
            )
        table = loaded[name]
        check_columns(
            Path(f"{origin}/{name}"),
            table.column_names,
            (settings.text_column, settings.label_column),
        )
        # A ClassLabel column stores ids; its feature knows the names.
        names = getattr(table.features[settings.label_column], "names", None)
        splits[split] = RawSplit(f"{origin}, split {name!r}")
        texts, labels = table[settings.text_column], table[settings.label_column]
        for row, (text, label) in enumerate(zip(texts, labels, strict=True), start=1):
            splits[split].add(row, text, names[label] if names else label)
    return splits
