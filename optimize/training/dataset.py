"""What a model learns from, batch by batch: tokens, labels, and what a teacher said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from optimize.data.arrays import padded
from optimize.training.batches import LengthBatches
from optimize.training.profile import Profile
from optimize.training.soft_targets import SoftTargets
from optimize.training.tokens import Tokens


@dataclass(frozen=True)
class TrainingSet:
    """What a student learns from, row by row.

    Attributes:
        tokens: texts by the student's tokenizer: the transfer set, and copies of some of it.
        labels: as a split has them, a text of the transfer set each;
            :data:`optimize.data.splits.UNLABELLED` where nobody knows.
        targets: what the teacher said; ``None`` where only labels speak.
        same_origin: the student began as its teacher, so that states of equal width mean the same.
        sources: row of the transfer set whose label and targets hold for each text, shape (texts,);
            ``None`` where each is its own.
    """

    tokens: Tokens
    labels: NDArray[np.int64]
    targets: SoftTargets | None
    same_origin: bool = False
    sources: NDArray[np.int64] | None = None

    def batch(self, rows: Sequence[int]) -> dict[str, Any]:
        """Inputs, labels and targets of some texts."""
        chosen = np.asarray(rows, dtype=np.int64)
        batch: dict[str, Any] = self.tokens.batch(chosen)
        if self.sources is not None:
            chosen = self.sources[chosen]
        batch["labels"] = torch.from_numpy(self.labels[chosen])
        if self.targets is None:
            return batch
        batch["teacher_logits"] = torch.from_numpy(self.targets.logits[chosen])
        if self.targets.pooled is not None:
            batch["teacher_pooled"] = torch.from_numpy(self.targets.pooled[chosen])
        for name in ("hidden", "relations"):
            store = getattr(self.targets, name)
            if store is not None:
                batch[f"teacher_{name}"] = torch.from_numpy(padded(store[chosen])).float()
        return batch


class LengthLoader(DataLoader[Any]):
    """Batches by length; Trainer tells it the epoch, of which a plain loader knows nothing."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0."""
        batches: Any = self.batch_sampler
        batches.set_epoch(epoch)


class TrainingLoader(LengthLoader):
    """Batches of a training set."""

    def __init__(self, training_set: TrainingSet, batches: LengthBatches, profile: Profile) -> None:
        super().__init__(
            range(len(training_set.tokens)),  # type: ignore[arg-type]  # a dataset of row numbers
            batch_sampler=batches,
            collate_fn=self._collate,
        )
        self._training_set, self._profile = training_set, profile

    def _collate(self, rows: list[int]) -> dict[str, Any]:
        with self._profile.section("data"):
            return self._training_set.batch(rows)
