"""Finished stages on disk, each under its key, with a digest of every file.

A stage is built aside and renamed, so that an interrupted run leaves nothing half-written; its
unfinished folder stays for the next run to resume from. What is found is held against its digests
before it is used: a damaged stage is told by name and built again.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from optimize.bundle.manifest import FileEntry
from optimize.disk import flush, told_when_full
from optimize.pipeline.key import Json
from optimize.training.distributed import Processes
from optimize.workspace import Tell

RECORD_NAME = "stage.json"
RECORD_SCHEMA = 1
RESULT, WORK = "result", "work"
KEY_LENGTH = 20
UNFINISHED = ".unfinished"
DAY_S = 86_400.0
# Fills the folder given first; the second is for what a later run goes on from.
Fill = Callable[[Path, Path], None]


def default_root() -> Path:
    """The user's cache folder for this package."""
    return platformdirs.user_cache_path("optimize")


@dataclass(frozen=True)
class Entry:
    """A finished stage in the cache.

    Attributes:
        folder: holds the result and its record.
        name: of the stage.
        key: as far as the folder's name has it.
        parts: what the key was made of.
        size_bytes: of its files; one that several stages share counts in each.
        used: when it was last asked for, seconds since the epoch.
    """

    folder: Path
    name: str
    key: str
    parts: dict[str, Json]
    size_bytes: int
    used: float

    @property
    def age_days(self) -> float:
        """Days since it was last used."""
        return max(0.0, time.time() - self.used) / DAY_S


class StageCache:
    """Folders by stage name and key.

    Args:
        root: where they are kept; several processes must see the same.
        tell: told of what is damaged.
        processes: those that build together.
    """

    def __init__(
        self,
        root: Path,
        tell: Tell = lambda line: None,
        processes: Processes | None = None,
    ) -> None:
        self._root, self._tell = root, tell
        self._processes = processes or Processes()

    def find(self, name: str, key: str) -> Path | None:
        """The result of a stage that is there and whole; one that is damaged is set aside."""
        place = self._place(name, key)
        whole = False

        def look() -> None:
            nonlocal whole
            whole = self._whole(name, place)

        self._processes.by_first(look)
        return place / RESULT if self._processes.agreed(whole) else None

    def build(
        self,
        name: str,
        key: str,
        fill: Fill,
        parts: Mapping[str, Json] | None = None,
        *,
        together: bool = False,
    ) -> Path:
        """The result of a stage, made now, unless another run was quicker.

        Args:
            name: for people who look into the cache.
            key: digest of all that the result depends on.
            fill: makes it.
            parts: what the key was made of, for the record.
            together: all processes make it; otherwise the first does, and the others wait.
        """
        place = self._place(name, key)
        if together and self._processes.count > 1:
            self._build_together(name, place, fill, parts or {})
        else:
            self._processes.by_first(lambda: self._build_locked(name, place, fill, parts or {}))
        return place / RESULT

    def entries(self) -> Iterator[Entry]:
        """Every finished stage."""
        for path in sorted(self._root.glob(f"*/{RECORD_NAME}")):
            with suppress(OSError, ValueError, KeyError):
                record, stat = _read(path), path.stat()
                size = sum(entry["size_bytes"] for entry in record["files"].values())
                name, key = str(record["name"]), path.parent.name.rpartition("-")[2]
                yield Entry(path.parent, name, key, record["parts"], size, stat.st_mtime)

    def unfinished(self) -> Iterator[Entry]:
        """What stopped runs left of stages: the same ones would go on from there."""
        for folder in sorted(self._root.glob(f"*{UNFINISHED}")):
            with suppress(OSError):
                stats = [path.lstat() for path in folder.rglob("*") if path.is_file()]
                latest = max((stat.st_mtime for stat in stats), default=folder.stat().st_mtime)
                name, _, key = folder.name.removesuffix(UNFINISHED).rpartition("-")
                size = sum(stat.st_size for stat in stats)
                yield Entry(folder, name, key + UNFINISHED, {}, size, latest)

    def disk_bytes(self) -> int:
        """Bytes of all files; one that several stages share by a hard link counts once."""
        stats = [path.lstat() for path in self._root.rglob("*") if path.is_file()]
        return sum({(stat.st_dev, stat.st_ino): stat.st_size for stat in stats}.values())

    def remove(self, entry: Entry) -> bool:
        """Delete a stage; false where a run is working on it right now."""
        try:
            place = str(entry.folder).removesuffix(UNFINISHED)
            with FileLock(f"{place}.lock", timeout=0):
                shutil.rmtree(entry.folder)
        except Timeout:
            return False
        return True

    def _place(self, name: str, key: str) -> Path:
        return self._root / f"{name}-{key[:KEY_LENGTH]}"

    def _whole(self, name: str, place: Path) -> bool:
        if not place.is_dir():
            return False
        fault = damage(place)
        if fault is None:
            with suppress(OSError):  # a cache may be read-only
                os.utime(place / RECORD_NAME)
            return True
        self._tell(f"{name}: {fault}; it is built again")
        with FileLock(f"{place}.lock"):
            if place.is_dir() and damage(place) is not None:
                shutil.rmtree(place)
        return False

    def _build_locked(self, name: str, place: Path, fill: Fill, parts: Mapping[str, Json]) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        with told_when_full(self._root), FileLock(f"{place}.lock"):
            if not place.is_dir():
                aside = _aside(place)
                fill(aside / RESULT, aside / WORK)
                _finish(name, place, parts)

    def _build_together(
        self, name: str, place: Path, fill: Fill, parts: Mapping[str, Json]
    ) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        lock: AbstractContextManager[Any] = nullcontext()
        if self._processes.first:
            lock = FileLock(f"{place}.lock")
        with told_when_full(self._root), lock:
            self._processes.by_first(lambda: _prepare(place))
            if not place.is_dir():  # else another run had the lock before this one
                aside = _unfinished(place)
                fill(aside / RESULT, aside / WORK)
                self._processes.by_first(lambda: _finish(name, place, parts))


def damage(place: Path) -> str | None:
    """What is wrong with a finished stage, in words; ``None`` where it is as it was left."""
    try:
        return _difference(place / RESULT, _read(place / RECORD_NAME)["files"])
    except (OSError, ValueError, KeyError) as error:
        return f"{place} cannot be read ({error})"


def _difference(result: Path, files: Mapping[str, Mapping[str, Any]]) -> str | None:
    there = {path.relative_to(result).as_posix() for path in _files(result)}
    if extra := sorted(there - files.keys()):
        return f"{result / extra[0]} does not belong there"
    for name, entry in files.items():
        path = result / name
        if name not in there:
            return f"{path} is missing"
        size = path.stat().st_size
        if size != entry["size_bytes"]:
            return f"{path} has {size:,} bytes where {entry['size_bytes']:,} were written"
        digest = FileEntry.of(path).sha256
        if digest != entry["sha256"]:
            return f"{path} has SHA-256 {digest[:10]}… where {entry['sha256'][:10]}… was written"
    return None


def _unfinished(place: Path) -> Path:
    return Path(f"{place}{UNFINISHED}")


def _aside(place: Path) -> Path:
    """The unfinished folder: an empty one for the result, the other as an earlier run left it."""
    aside = _unfinished(place)
    shutil.rmtree(aside / RESULT, ignore_errors=True)
    (aside / RESULT).mkdir(parents=True)
    return aside


def _prepare(place: Path) -> None:
    if not place.is_dir():
        _aside(place)


def _finish(name: str, place: Path, parts: Mapping[str, Json]) -> None:
    """Write the record and rename; after a loss of power a stage is there as a whole or not."""
    aside = _unfinished(place)
    result = aside / RESULT
    files = {}
    for path in _files(result):
        flush(path)
        entry = FileEntry.of(path)
        files[path.relative_to(result).as_posix()] = {
            "size_bytes": entry.size_bytes,
            "sha256": entry.sha256,
        }
    record = {"schema_version": RECORD_SCHEMA, "name": name, "parts": parts, "files": files}
    shutil.rmtree(aside / WORK, ignore_errors=True)
    (aside / RECORD_NAME).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for path in (aside / RECORD_NAME, *_folders(result), aside):
        flush(path)
    aside.rename(place)
    flush(place.parent)


def _read(path: Path) -> dict[str, Any]:
    record = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(record, dict) or record.get("schema_version") != RECORD_SCHEMA:
        raise ValueError("it is of another version")
    return record


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if not path.is_dir())


def _folders(folder: Path) -> list[Path]:
    return [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]
