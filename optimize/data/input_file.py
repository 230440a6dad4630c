"""A file that a stage reads as it is."""

from __future__ import annotations

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
