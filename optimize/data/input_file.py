"""Files that a stage reads as they are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from optimize.bundle.manifest import FileEntry


@dataclass(frozen=True)
class InputFile:
    """A file that a stage reads; keyed by its content."""

    path: Path

    @cached_property
    def key_part(self) -> str:
        """SHA-256 of the file."""
        return FileEntry.of(self.path).sha256


@dataclass(frozen=True)
class InputFiles:
    """Files of a folder that a stage reads; keyed by their names and contents.

    Attributes:
        folder: where they lie.
        names: relative to it.
    """

    folder: Path
    names: tuple[str, ...]

    @cached_property
    def key_part(self) -> str:
        """SHA-256 of all names and contents."""
        content = hashlib.sha256()
        for name in self.names:
            content.update(f"{name} {FileEntry.of(self.folder / name).sha256}\n".encode())
        return content.hexdigest()
