"""What a stage gets beside its values and inputs: with whom it works, and who is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from optimize.training.distributed import Processes
from optimize.training.profile import Profile
from optimize.workspace import Workspace

if TYPE_CHECKING:
    from transformers import TrainerCallback


@dataclass(frozen=True)
class Run(Workspace):
    """One run of a stage.

    Attributes:
        processes: those that make it together.
        profile: told where the time goes.
        watch: further callbacks of every training.
    """

    processes: Processes = field(default_factory=Processes)
    profile: Profile = field(default_factory=Profile)
    watch: tuple[TrainerCallback, ...] = ()
