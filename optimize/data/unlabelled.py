"""Texts without labels that a user adds to the transfer set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from optimize.bundle.manifest import FileEntry
from optimize.data.faults import Faults
from optimize.data.separated import check_columns
from optimize.data.splits import DataError
from optimize.data.tables import READERS, Reading, text_of
from optimize.data.texts import fault_of
from optimize.hub import commit_of

# Suffixes of files of one text a line, beside those of tables.
PLAIN = ("txt", "text")


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

    @cached_property
    def count(self) -> int | None:
        """How many there are; ``None`` where they lie on the Hub. Raises as reading them does."""
        return sum(1 for _ in self.texts()) if is_file(self.source) else None


def is_file(source: str) -> bool:
    """Whether a file is there, or was meant: one has a suffix that is read, which no Hub id has."""
    path = Path(source)
    suffix = path.suffix.removeprefix(".").lower()
    return path.exists() or suffix in (*READERS, *PLAIN) or len(path.parts) > 2


def read_unlabelled(source: str, column: str, revision: str | None = None) -> Iterator[str]:
    """Texts without labels: a text file of one a line, a table with the column, or a Hub id.

    Raises:
        DataError: it is missing, not readable, without the column, or has a value that is no text.
    """
    path = Path(source)
    suffix = path.suffix.removeprefix(".").lower()
    faults = Faults()
    rows: Iterable[tuple[int, Any]]
    if path.is_file() and suffix in READERS:
        how = Reading((column,), faults=faults)
        rows = ((row, cells[column]) for row, cells in READERS[suffix](path, how))
    elif path.is_file():
        rows = enumerate(text_of(path).split("\n"), start=1)
    elif path.exists():
        raise DataError(f"{path} is a folder; distill.transfer needs a file or a Hub id")
    elif is_file(source):
        raise DataError(f"distill.transfer names {source}, which does not exist")
    else:
        rows = _hub_texts(source, column, revision)
    for row, text in rows:
        fault = fault_of(text)
        if isinstance(text, str) and not text.strip():
            continue
        if fault:
            faults.add(f"{source}, row {row}: {fault}")
        else:
            yield text.strip()
    faults.refuse()


def _hub_texts(source: str, column: str, revision: str | None) -> Iterator[tuple[int, Any]]:
    import datasets

    try:
        loaded = datasets.load_dataset(source, split="train", revision=revision)
    except Exception as error:  # the Hub client's errors have no common base class
        raise DataError(
            f"distill.transfer = {source!r} is no file here, and as a Hub data set it cannot be "
            f"loaded: {error}"
        ) from error
    check_columns(source, loaded.column_names, (column,))
    for row, cells in enumerate(loaded, start=1):
        yield row, cells[column]
