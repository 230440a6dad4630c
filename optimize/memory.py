"""Memory that runs out, told in words: which stage it was, and which setting to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# As torch, ONNX Runtime, the kernel's allocator and pyarrow say it.
OUT_WORDS = (
    "not enough memory",
    "can't allocate memory",
    "Failed to allocate memory",
    "std::bad_alloc",
    "out of memory",
    "Cannot allocate memory",
    "failed to map segment from shared object",
)


class OutOfMemoryError(RuntimeError):
    """A stage that needs more memory than there is; names the settings to lower."""


def is_out(error: BaseException) -> bool:
    """Whether a library says, in its own way, that memory ran out."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in OUT_WORDS)


@contextmanager
def told_when_out(stage: str = "") -> Iterator[None]:
    """Within it, memory that runs out is an :class:`OutOfMemoryError` that names the stage."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OutOfMemoryError) or not is_out(error):
            raise
        raise OutOfMemoryError(
            f"memory ran out {f'in the stage {stage}' if stage else 'outside of the stages'} "
            f"({str(error) or type(error).__name__}). "
            f"{remedy(stage)} What is finished stays, and the same command goes on from there."
        ) from error


def remedy(stage: str) -> str:
    """Which settings to lower."""
    if stage.endswith("outputs") or stage == "transfer-set":
        return "Lower teacher.max_length, distill.augment or the texts of distill.transfer."
    if stage.startswith("student"):
        return "Lower distill.batch_size, teacher.max_length or student.layers."
    if stage.startswith("teacher"):
        return "Lower teacher.batch_size or teacher.max_length, or take a smaller checkpoint."
    return "End other processes, or take a smaller model."
