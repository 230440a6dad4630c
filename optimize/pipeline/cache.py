"""Stages cached under the digest of all that they depend on.

A stage's folder is built aside and renamed, so that an interrupted run leaves nothing
half-written; its unfinished folder stays for the next run to resume from.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import platformdirs
from filelock import FileLock

from optimize.training.distributed import Processes

WORK = "work"  # training checkpoints, inside the unfinished folder; never part of the result


def default_root() -> Path:
    """The user's cache folder for this package."""
    return platformdirs.user_cache_path("optimize")


class StageCache:
    """Folders by stage name and key.

    Args:
        root: where they are kept; several processes must see the same.
        processes: those that build together.
    """

    def __init__(self, root: Path, processes: Processes | None = None) -> None:
        self._root = root
        self._processes = processes or Processes()

    def folder(
        self, stage: str, key: str, build: Callable[[Path, Path], None], *, together: bool = False
    ) -> Path:
        """The stage's folder, built when it is not there yet.

        Args:
            stage: a name, for people who look into the cache.
            key: digest of all that the stage depends on.
            build: fills the folder given first; the second is a place for checkpoints, which a
                later run finds as an interrupted one left it.
            together: all processes build; otherwise the first does, and the others wait.
        """
        done = self._root / f"{stage}-{key[:20]}"
        if self._processes.agreed(done.is_dir()):
            return done
        if together:
            self._build_together(done, build)
        else:
            self._processes.by_first(lambda: self._build_locked(done, build))
        return done

    def _build_locked(self, done: Path, build: Callable[[Path, Path], None]) -> None:
        self._root.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{done}.lock"):
            if not done.is_dir():
                result, work = _aside(done)
                build(result, work)
                _finish(done)

    def _build_together(self, done: Path, build: Callable[[Path, Path], None]) -> None:
        if self._processes.count == 1:
            self._build_locked(done, build)
            return
        self._root.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{done}.lock") if self._processes.first else nullcontext():
            self._processes.by_first(lambda: _prepare_unless(done))
            if not done.is_dir():  # else another run had the lock before this one
                build(*_places(done))
                self._processes.by_first(lambda: _finish(done))


def _places(done: Path) -> tuple[Path, Path]:
    aside = Path(f"{done}.unfinished")
    return aside / "result", aside / WORK


def _aside(done: Path) -> tuple[Path, Path]:
    """An empty folder for the result, and the one for checkpoints as it was left."""
    result, work = _places(done)
    shutil.rmtree(result, ignore_errors=True)
    result.mkdir(parents=True)
    return result, work


def _prepare_unless(done: Path) -> None:
    if not done.is_dir():
        _aside(done)


def _finish(done: Path) -> None:
    result, _ = _places(done)
    result.rename(done)
    shutil.rmtree(result.parent, ignore_errors=True)
