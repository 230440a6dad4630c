"""The processes that build together, started by ``accelerate launch`` or ``torchrun``."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """This process among those that build together; one alone by default.

    accelerate does the work. It is asked only where there are several: importing it brings torch,
    which a build that finds everything in the cache does without.

    Attributes:
        rank: its number, from 0.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def launched(cls) -> Processes:
        """Join the others, where a launcher started several."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        import torch
        from accelerate import PartialState

        state = PartialState(cpu=not torch.cuda.is_available())
        return cls(state.process_index, state.num_processes)

    @property
    def first(self) -> bool:
        """Whether this one writes what all share."""
        return self.rank == 0

    def wait(self) -> None:
        """Until all of them are here."""
        if self.count > 1:
            from accelerate.utils import wait_for_everyone

            wait_for_everyone()

    def leave(self) -> None:
        """Part together: one that goes early takes the others' connections with it."""
        if self.count > 1:
            from accelerate import PartialState

            self.wait()
            PartialState().destroy_process_group()

    def agreed(self, value: Value) -> Value:
        """The first one's value, for all."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        shared: list[Value] = broadcast_object_list([value])
        return shared[0]

    def by_first(self, work: Callable[[], None]) -> None:
        """Let the first do some work while the others wait for it.

        Not accelerate's ``main_process_first``: where the first fails there, the others go on, and
        wait for it for ever at the next barrier.

        Raises:
            RuntimeError: in the others, when it failed in the first.
        """
        failed: BaseException | None = None
        if self.first:
            try:
                work()
            except Exception as error:  # raised again below, after the others know
                failed = error
        ok = self.agreed(failed is None)
        if failed is not None:
            raise failed
        if not ok:
            raise RuntimeError("the first process failed; its own message says why")
