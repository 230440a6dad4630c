"""Where a stage of the build works, and who is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


class Progress(str):
    """A line that knows how far the work is which it tells of.

    Attributes:
        done: share of the work, 0 to 1.
        passing: it is for a bar; where there is none, it is shown now and then.
    """

    done: float
    passing: bool

    def __new__(cls, line: str, done: float, *, passing: bool = False) -> Progress:
        """A line with its share."""
        made = super().__new__(cls, line)
        made.done, made.passing = min(1.0, max(0.0, done)), passing
        return made


class Detail(str):
    """A line that only who asks for details is told."""


def behind(name: str, line: str) -> str:
    """The line with the name of what it is about before it; how far it is stays with it."""
    told = f"{name}: {line}"
    if isinstance(line, Progress):
        return Progress(told, line.done, passing=line.passing)
    return told


# What is being done is told through this, one line a call.
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Workspace:
    """What every stage gets beside its values and inputs.

    Attributes:
        work: folder for what an interrupted run shall find again; no part of the result.
        tell: told what is being done.
    """

    work: Path
    tell: Tell
