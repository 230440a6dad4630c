"""Tables in files: one reader a format, each yielding rows as they were written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optimize.data.class_names import class_names, named
from optimize.data.faults import Faults
from optimize.data.separated import Quoting, check_columns, read_separated
from optimize.data.splits import DataError
from optimize.disk import read_regular

SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".json": "json",
    ".parquet": "parquet",
}
# A row's number in its file, and its cells by column.
Rows = Iterator[tuple[int, Mapping[str, Any]]]
# Text that fits memory several times over; more is better given as Parquet.
LARGEST_TEXT_BYTES = 1 << 32
BYTE_ORDER_MARKS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


@dataclass
class Reading:
    """How the tables of a source are read.

    Attributes:
        columns: those that are wanted.
        quoting: of CSV and TSV files.
        faults: told the rows that cannot be used.
    """

    columns: tuple[str, ...]
    quoting: Quoting = "auto"
    faults: Faults = field(default_factory=Faults)


def text_of(path: Path) -> str:
    """A file's text: UTF-8, or what its byte-order mark says.

    Raises:
        DataError: it is neither, or no regular file.
    """
    try:
        content = read_regular(path, LARGEST_TEXT_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read: {reason}") from None
    encoding = next(
        (name for mark, name in BYTE_ORDER_MARKS.items() if content.startswith(mark)), "utf-8"
    )
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path.name}, row {row}: byte 0x{content[error.start]:02x} is not "
            f"{encoding.removesuffix('-sig').upper()}; convert the file, e.g. `iconv -f "
            f"windows-1252 -t utf-8 {path.name}`"
        ) from None


def _read_csv(path: Path, how: Reading) -> Rows:
    return read_separated(path, text_of(path), how.columns, ",", how.quoting, how.faults)


def _read_tsv(path: Path, how: Reading) -> Rows:
    return read_separated(path, text_of(path), how.columns, "\t", how.quoting, how.faults)


def _read_jsonl(path: Path, how: Reading) -> Rows:
    # A line ends at \n alone: U+2028 and its like are allowed within a JSON string.
    for row, line in enumerate(text_of(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            cells = json.loads(line)
        except (ValueError, RecursionError) as error:
            how.faults.add(f"{path.name}, row {row}: not JSON ({error})")
            continue
        if _has_columns(cells, f"{path.name}, row {row}", how):
            yield row, cells


def _read_json(path: Path, how: Reading) -> Rows:
    """An array of records; a file of JSON Lines under this name is read as what it is."""
    content = json_of(path)
    if content is None:
        yield from _read_jsonl(path, how)
        return
    if not isinstance(content, list):
        raise DataError(
            f"{path.name} is a JSON {_json_name(content)}, not an array of records [{{…}}, …]; "
            'pandas writes one with to_json(orient="records"). One of CLINC150\'s layout needs '
            'data.format = "clinc".'
        )
    yield from records_of(content, path.name, how)


def records_of(content: list[Any], place: str, how: Reading) -> Rows:
    """The records of an array, those without the columns told."""
    for row, cells in enumerate(content, start=1):
        if _has_columns(cells, f"{place}, record {row}", how):
            yield row, cells


def json_of(path: Path) -> Any:
    """A file's JSON, or ``None`` where it is JSON Lines.

    Raises:
        DataError: it is neither.
    """
    text = text_of(path)
    try:
        return json.loads(text)
    except RecursionError:
        raise DataError(f"{path.name} is nested too deeply to be a table") from None
    except ValueError as error:
        first = text.split("\n", 1)[0]
        try:
            if isinstance(json.loads(first), dict):
                return None
        except (ValueError, RecursionError):
            pass
        raise DataError(f"{path.name} is not JSON: {error}") from None


def _json_name(content: object) -> str:
    return "object" if isinstance(content, dict) else type(content).__name__


def _has_columns(cells: object, place: str, how: Reading) -> bool:
    if not isinstance(cells, dict):
        how.faults.add(f"{place}: a JSON object is needed, not {json.dumps(cells)[:40]!r}")
        return False
    for name in how.columns:
        if name not in cells:
            how.faults.add(
                f"{place} has no column {name!r} (its columns: {', '.join(cells)}); set "
                "data.text_column, data.label_column or data.split_column"
            )
            return False
    return True


def _read_parquet(path: Path, how: Reading) -> Rows:
    import pyarrow.parquet  # comes with datasets

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path.name} is not Parquet: {error}") from None
    check_columns(path.name, table.column_names, how.columns)
    names = class_names(table.schema.metadata)
    chosen = [
        [named(value, names.get(name)) for value in table.column(name).to_pylist()]
        for name in how.columns
    ]
    for row, cells in enumerate(zip(*chosen, strict=True), start=1):
        yield row, dict(zip(how.columns, cells, strict=True))


READERS: dict[str, Callable[[Path, Reading], Rows]] = {
    "csv": _read_csv,
    "tsv": _read_tsv,
    "jsonl": _read_jsonl,
    "json": _read_json,
    "parquet": _read_parquet,
}
