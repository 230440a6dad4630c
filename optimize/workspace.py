"""Where a stage of the build works, and who is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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
