"""Readers: one function a format, each yielding the rows of every split as they were written."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from optimize.bundle.manifest import FileEntry
from optimize.data.splits import SPLITS, DataError
from optimize.hub import commit_of
from optimize.settings.recipe import DataSettings

SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".parquet": "parquet"}


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
# A row's number in its file, and its cells by column.
Rows = Iterator[tuple[int, Mapping[str, Any]]]


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


def _text_of(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path.name}, row {row}: byte 0x{content[error.start]:02x} is not UTF-8; convert the "
            f"file, e.g. `iconv -f windows-1252 -t utf-8 {path.name}`"
        ) from None


def _check_columns(path: Path, present: list[str], wanted: tuple[str, ...]) -> None:
    twice = sorted({name for name in present if present.count(name) > 1})
    if twice:
        raise DataError(
            f"{path.name}, row 1: column {twice[0]!r} is there {present.count(twice[0])} times; "
            "rename or delete the others"
        )
    for name in wanted:
        if name not in present:
            raise DataError(
                f"{path.name} has no column {name!r} (its columns: {', '.join(present)}); set "
                "data.text_column, data.label_column or data.split_column"
            )


def _read_separated(path: Path, columns: tuple[str, ...], delimiter: str) -> Rows:
    lines = iter(csv.reader(_text_of(path).splitlines(keepends=True), delimiter=delimiter))
    header = next(lines, None)
    if header is None:
        raise DataError(f"{path.name} is empty; it needs a header row with {', '.join(columns)}")
    _check_columns(path, header, columns)
    for row, cells in enumerate(lines, start=2):
        if not cells:
            continue  # a blank line, as editors leave at the end
        if len(cells) != len(header):
            raise DataError(
                f"{path.name}, row {row}: {len(cells)} cells, the header has {len(header)}; quote "
                "a text that holds the separator"
            )
        yield row, dict(zip(header, cells, strict=True))


def _read_csv(path: Path, columns: tuple[str, ...]) -> Rows:
    return _read_separated(path, columns, ",")


def _read_tsv(path: Path, columns: tuple[str, ...]) -> Rows:
    return _read_separated(path, columns, "\t")


def _read_jsonl(path: Path, columns: tuple[str, ...]) -> Rows:
    for row, line in enumerate(_text_of(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            cells = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path.name}, row {row}: not JSON ({error})") from None
        if not isinstance(cells, dict):
            raise DataError(f"{path.name}, row {row}: a JSON object is needed, not {line[:40]!r}")
        for name in columns:
            if name not in cells:
                raise DataError(
                    f"{path.name}, row {row} has no column {name!r} (its columns: "
                    f"{', '.join(cells)}); set data.text_column, data.label_column or "
                    "data.split_column"
                )
        yield row, cells


def _read_parquet(path: Path, columns: tuple[str, ...]) -> Rows:
    import pyarrow.parquet  # comes with datasets

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path.name} is not Parquet: {error}") from None
    _check_columns(path, table.column_names, columns)
    chosen = [table.column(name).to_pylist() for name in columns]
    for row, cells in enumerate(zip(*chosen, strict=True), start=1):
        yield row, dict(zip(columns, cells, strict=True))


READERS: dict[str, Callable[[Path, tuple[str, ...]], Rows]] = {
    "csv": _read_csv,
    "tsv": _read_tsv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}


@dataclass(frozen=True)
class InputFile:
    """A file that a stage reads; keyed by its content."""

    path: Path

    @cached_property
    def key_part(self) -> str:
        """SHA-256 of the file."""
        return FileEntry.of(self.path).sha256


@dataclass(frozen=True)
class OwnTexts:
    """Texts without labels that the user adds to the transfer set.

    Attributes:
        source: a text file of one a line, a table with the column, or a Hub id.
        column: that holds the texts.
        revision: Hub revision.
    """

    source: str
    column: str
    revision: str | None = None

    @cached_property
    def key_part(self) -> str:
        """A digest of the file and how it is read, or the Hub id with its commit."""
        path = Path(self.source)
        if path.is_file():
            return f"{FileEntry.of(path).sha256} {path.suffix} {self.column}"
        return f"hub:{self.source}@{commit_of(self.source, self.revision, 'dataset')} {self.column}"

    def texts(self) -> Iterator[str]:
        """The texts; raises as :func:`read_unlabelled`."""
        return read_unlabelled(self.source, self.column, self.revision)


def read_unlabelled(source: str, column: str, revision: str | None = None) -> Iterator[str]:
    """Texts without labels: a text file of one a line, a table with the column, or a Hub id.

    Raises:
        DataError: it is missing, not readable, without the column, or has a value that is no text.
    """
    path = Path(source)
    suffix = path.suffix.removeprefix(".").lower()
    rows: Iterable[tuple[int, Any]]
    if path.is_file() and suffix in READERS:
        rows = ((row, cells[column]) for row, cells in READERS[suffix](path, (column,)))
    elif path.is_file():
        rows = enumerate(_text_of(path).splitlines(), start=1)
    elif path.exists():
        raise DataError(f"{path} is a folder; distill.transfer needs a file or a Hub id")
    else:
        rows = _hub_texts(source, column, revision)
    for row, text in rows:
        if not isinstance(text, str):
            raise DataError(f"{source}, row {row}: {text!r} is {type(text).__name__}, not a text")
        if text.strip():
            yield text.strip()


def _hub_texts(source: str, column: str, revision: str | None) -> Iterator[tuple[int, Any]]:
    import datasets

    try:
        loaded = datasets.load_dataset(source, split="train", revision=revision)
    except Exception as error:  # the Hub client's errors have no common base class
        raise DataError(
            f"distill.transfer = {source!r} is no file here, and as a Hub data set it cannot be "
            f"loaded: {error}"
        ) from error
    _check_columns(Path(source), loaded.column_names, (column,))
    for row, cells in enumerate(loaded, start=1):
        yield row, cells[column]


def _read_clinc(path: Path) -> RawSplits:
    """CLINC150's own layout (Larson et al. 2019), with keys ``train``, ``oos_train`` and so on."""
    try:
        content = json.loads(_text_of(path))
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
        _check_columns(
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
