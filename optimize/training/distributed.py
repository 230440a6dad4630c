"""The processes that build together, started by ``accelerate launch`` or ``torchrun``."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Processes:
    """This process among those that build together; one alone by default.

    Attributes:
        rank: its number, from 0.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def launched(cls) -> Processes:
        """Join the others, where a launcher started several."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
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
            import torch

            torch.distributed.barrier()

    def leave(self) -> None:
        """Part together: one that goes early takes the others' connections with it."""
        if self.count > 1:
            import torch

            self.wait()
            torch.distributed.destroy_process_group()

    def agreed(self, value: bool) -> bool:
        """The first one's value, for all."""
        if self.count == 1:
            return value
        import torch

        shared = [value]
        torch.distributed.broadcast_object_list(shared, src=0)
        return bool(shared[0])

    def by_first(self, work: Callable[[], None]) -> None:
        """Let the first do some work while the others wait for it.

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
