"""Files: what is read has an end, what is written is on the disk, and a full disk is named."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISREG
from tempfile import TemporaryDirectory

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# As safetensors, pyarrow and torch pass it on; torch's writer says only that less was written.
FULL_WORDS = (
    "No space left on device",
    "Disk quota exceeded",
    "os error 28",
    "os error 122",
    ". unexpected pos ",
)


class DiskFullError(RuntimeError):
    """No space is left; names the folder and what may be removed."""


def read_regular(path: Path, most_bytes: int) -> bytes:
    """The content of a regular file; a pipe would be waited for, and a device has no end.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, or larger than ``most_bytes``.
    """
    stat = path.stat()
    if not S_ISREG(stat.st_mode):
        raise ValueError("it is not a regular file")
    if stat.st_size > most_bytes:
        raise ValueError(f"it has {stat.st_size:,} bytes, above the {most_bytes:,} allowed")
    return path.read_bytes()


def flush(path: Path) -> None:
    """Have the disk hold what was written to a file or folder."""
    with suppress(OSError):  # some file systems and systems cannot, for folders
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_writable(target: Path) -> None:
    """Find out that nothing can be written beside a file or folder, before the work for it is done.

    Folders that are absent are made.

    Raises:
        OSError: nothing can be.
    """
    parent = target.absolute().parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=parent, prefix=f".{target.name}-"):
            pass
    except OSError as error:
        why = error.strerror or str(error)
        raise OSError(
            f"{target} cannot be written ({parent}: {why}); choose another --out"
        ) from None


def is_full(error: BaseException) -> bool:
    """Whether a library says, in its own way, that the disk is full."""
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    return any(words in str(error) for words in FULL_WORDS)


@contextmanager
def told_when_full(folder: Path) -> Iterator[None]:
    """Within it, a full disk is a :class:`DiskFullError` that names the folder."""
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskFullError) or not is_full(error):
            raise
        raise DiskFullError(
            f"no space is left where {folder} is ({error}). What is finished stays, and the same "
            "command goes on from there. Free some: `optimize cache` shows the stages there are, "
            "`optimize cache --older-than 7` removes what was not used for a week; or set "
            "XDG_CACHE_HOME to another disk."
        ) from error
