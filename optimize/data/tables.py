"""Tables in files: one reader a format, each yielding rows as they were written."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from optimize.data.splits import DataError

SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".parquet": "parquet"}
# A row's number in its file, and its cells by column.
Rows = Iterator[tuple[int, Mapping[str, Any]]]


def text_of(path: Path) -> str:
    """A file's text.

    Raises:
        DataError: it is not UTF-8.
    """
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path.name}, row {row}: byte 0x{content[error.start]:02x} is not UTF-8; convert the "
            f"file, e.g. `iconv -f windows-1252 -t utf-8 {path.name}`"
        ) from None


def check_columns(path: Path, present: list[str], wanted: tuple[str, ...]) -> None:
    """Raise :class:`DataError` where a wanted column is missing, or one is there twice."""
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
    lines = iter(csv.reader(text_of(path).splitlines(keepends=True), delimiter=delimiter))
    header = next(lines, None)
    if header is None:
        raise DataError(f"{path.name} is empty; it needs a header row with {', '.join(columns)}")
    check_columns(path, header, columns)
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
    for row, line in enumerate(text_of(path).split("\n"), start=1):
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
    check_columns(path, table.column_names, columns)
    chosen = [table.column(name).to_pylist() for name in columns]
    for row, cells in enumerate(zip(*chosen, strict=True), start=1):
        yield row, dict(zip(columns, cells, strict=True))


READERS: dict[str, Callable[[Path, tuple[str, ...]], Rows]] = {
    "csv": _read_csv,
    "tsv": _read_tsv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}
