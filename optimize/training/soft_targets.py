"""What a teacher said of the texts, stored row by row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from optimize.data.arrays import Ragged, Rows
from optimize.models.activations import Activations, joined

STORE_NAME = "logits.npy"
POOLED_NAME = "pooled.npy"
HIDDEN_NAME = "hidden.npy"
RELATIONS_NAME = "relations.npy"
OFFSETS_NAME = "offsets.npy"


@dataclass(frozen=True)
class SoftTargets:
    """What the teacher said of the transfer set, row by row.

    Attributes:
        logits: shape (texts, labels).
        pooled: shape (texts, width); absent where logits came precomputed.
        hidden: a block a text of shape (tokens, layers · width), if it was stored.
        relations: a block a text of shape (tokens, 3 · width), likewise.
    """

    logits: Rows
    pooled: Rows | None = None
    hidden: Ragged | None = None
    relations: Ragged | None = None

    @classmethod
    def read(cls, folder: Path) -> SoftTargets:
        """What :func:`score` or :func:`import_precomputed` left in a folder."""

        def ragged(name: str) -> Ragged | None:
            path = folder / name
            return Ragged(path, folder / OFFSETS_NAME) if path.is_file() else None

        pooled = folder / POOLED_NAME
        return cls(
            Rows(folder / STORE_NAME),
            Rows(pooled) if pooled.is_file() else None,
            ragged(HIDDEN_NAME),
            ragged(RELATIONS_NAME),
        )

    def write(
        self,
        rows: NDArray[np.int64],
        logits: torch.Tensor,
        activations: Activations,
        mask: torch.Tensor,
    ) -> None:
        """Write one batch."""
        self.logits[rows] = logits.float().numpy()
        if self.pooled is not None:
            self.pooled[rows] = activations.pooled.float().numpy()
        lengths = mask.sum(dim=1).tolist()
        for store, states in (
            (self.hidden, activations.hidden),
            (self.relations, activations.relations),
        ):
            if store is not None:
                block = joined(states).half().numpy()
                store[rows] = [row[:length] for row, length in zip(block, lengths, strict=True)]
