"""CSV and TSV files: which character separates, whether quotes mean something, and the rows."""

from __future__ import annotations

import contextlib
import csv
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from optimize.data.faults import Faults
from optimize.data.splits import DataError

Quoting = Literal["auto", "minimal", "none"]
# Tried where the header, split at the usual character, has not the columns that are asked for.
SEPARATORS = (",", ";", "\t", "|")
QUOTE = '"'


class DataWarning(UserWarning):
    """Data that can be used and may not be what was meant."""


class Record(NamedTuple):
    """One row as a person would count it, the header being row 1, and its cells."""

    row: int
    cells: list[str]


def read_separated(
    path: Path, text: str, columns: Sequence[str], separator: str, quoting: Quoting, faults: Faults
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a file with a header, each with the cells of the wanted columns.

    Quotes are the CSV format's (RFC 4180) in a file separated by commas. One separated by tabs is
    plain lines as a rule, in which a quote is a quote; it counts as quoted where all of it reads so
    and no text could have begun with a quote of its own.

    Args:
        path: for messages.
        text: the file's.
        columns: those that are wanted.
        separator: what its format says.
        quoting: ``minimal`` as in CSV, ``none`` as in plain lines, ``auto`` by the rule above.
        faults: told the rows whose cells do not fit the header.

    Raises:
        DataError: it is empty, lacks a column, or a quote is not closed.
    """
    if "\n" not in text:
        text = text.replace("\r", "\n")  # lines as the Macintosh once ended them
    separator = _separator_of(text, columns, separator)
    if quoting == "auto":
        quoting = "minimal" if separator != "\t" or _is_quoted(text, separator) else "none"
    records = (
        _quoted(path, text, separator) if quoting == "minimal" else _plain(path, text, separator)
    )
    first = next(records, None)
    if first is None:
        raise DataError(f"{path.name} is empty; it needs a header row with {', '.join(columns)}")
    header = first.cells
    check_columns(path.name, header, columns)
    places = {name: header.index(name) for name in columns}
    for row, cells in records:
        surplus = len(cells) - len(header)
        if surplus < 0 or any(cells[len(header) :]):
            faults.add(
                f"{path.name}, row {row}: {len(cells)} cells, the header has {len(header)}; quote "
                "a text that holds the separator"
                + ("" if quoting == "minimal" else ', and set data.quoting = "minimal"')
            )
            continue
        yield row, {name: cells[place] for name, place in places.items()}


def check_columns(origin: str, present: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise :class:`DataError` where a wanted column is missing, or there twice."""
    for name in wanted:
        if name not in present:
            raise DataError(
                f"{origin} has no column {name!r} (its columns: {', '.join(present)}); set "
                "data.text_column, data.label_column or data.split_column"
            )
        if (times := list(present).count(name)) > 1:
            raise DataError(
                f"{origin}, row 1: column {name!r} is there {times} times; rename or delete the "
                "others"
            )


def _separator_of(text: str, columns: Sequence[str], usual: str) -> str:
    """The usual separator, or the one at which the header has the columns."""
    for separator in (usual, *SEPARATORS):
        if set(columns) <= set(header_names(text, separator)):
            return separator
    return usual


def header_names(text: str, separator: str) -> list[str]:
    """The names in the header, which may be quoted, and then hold the separator or end a line."""
    header = re.split(r"\r\n?|\n", text, maxsplit=1)[0]
    for part in (header, text):
        with contextlib.suppress(csv.Error):
            rows = csv.reader(io.StringIO(part, newline=""), delimiter=separator, strict=True)
            return next(rows, [])
    return [name.strip(QUOTE) for name in header.split(separator)]


def _is_quoted(text: str, separator: str) -> bool:
    """Whether quotes in these lines are the format's and not the texts' own.

    Every cell that begins with a quote must then be one quoted cell, and need it, for a separator
    or a quote within; or else each row has one, as where all texts are quoted.
    """
    quoted_rows, rows, needless = 0, 0, False
    for line in filter(None, (line.rstrip("\r") for line in text.split("\n")[1:])):
        rows += 1
        if not (line.startswith(QUOTE) or separator + QUOTE in line):
            continue
        quoted_rows += 1
        try:
            (cells,) = csv.reader([line], delimiter=separator, strict=True)
        except (csv.Error, ValueError):
            return False
        whole = line.split(separator)
        needless |= len(cells) == len(whole) and f"{QUOTE}{QUOTE}" not in line
    return quoted_rows > 0 and (not needless or quoted_rows == rows)


def _plain(path: Path, text: str, separator: str) -> Iterator[Record]:
    """Lines cut at every separator."""
    for row, line in enumerate(text.split("\n"), start=1):
        if line.rstrip("\r"):
            yield Record(row, line.rstrip("\r").split(separator))


def _quoted(path: Path, text: str, separator: str) -> Iterator[Record]:
    """Rows of RFC 4180, where a quoted cell may hold separators and line breaks."""
    # A field may be as long as the file; the module's own bound is 131,072 characters.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    row, line, swallowing = 0, 0, []
    width = 0
    while True:
        row += 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            raise DataError(_quote_words(path, row, line + 1, error)) from None
        line = reader.line_num
        width = width or len(cells)
        if any("\n" in cell and _holds_rows(cell, separator, width) for cell in cells):
            swallowing.append(row)
        if cells:  # editors leave a blank line at the end
            yield Record(row, cells)
    if swallowing:
        warnings.warn(
            f"{path.name}, row {', '.join(map(str, swallowing[:5]))}"
            f"{' and more' if len(swallowing) > 5 else ''}: a quoted text holds line breaks and "
            "lines that look like rows of their own. If they are rows, a quote is there that was "
            'not meant: double it, or set data.quoting = "none".',
            DataWarning,
            stacklevel=2,
        )


def _quote_words(path: Path, row: int, line: int, error: csv.Error) -> str:
    place = f"{path.name}, row {row}" + (f" (line {line})" if line != row else "")
    if "end of data" in str(error):
        return (
            f"{place}: a quote opens here and is never closed, so that every row after it would be "
            "read as its text; close it, double it where it is meant as a quote, or set "
            'data.quoting = "none"'
        )
    return (
        f"{place}: {error}: a quote within a quoted text must be doubled; or set "
        'data.quoting = "none" where quotes mean nothing'
    )


def _holds_rows(cell: str, separator: str, width: int) -> bool:
    lines = cell.split("\n")
    return any(line.count(separator) == width - 1 for line in lines[1:])
