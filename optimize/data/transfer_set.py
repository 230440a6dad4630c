"""The transfer set: every text that the student learns from, written to a file.

The labelled training texts come first, in their order; then variations of them, texts that a
language model wrote, and texts of the user's own, which carry no label: the teacher speaks for
them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optimize.data.augment import augmented
from optimize.data.splits import UNLABELLED, TrainingData
from optimize.data.unlabelled import OwnTexts
from optimize.settings.training import AugmentKind
from optimize.workspace import Workspace

TEXTS_NAME = "texts.jsonl"
LABELS_NAME = "labels.npy"
REPLACEMENTS_NAME = "replacements.json"


class TransferSet:
    """What :func:`build_transfer_set` left in a folder.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._texts = folder / TEXTS_NAME
        self.labels: NDArray[np.int64] = np.load(folder / LABELS_NAME, allow_pickle=False)

    def __len__(self) -> int:
        return len(self.labels)

    def texts(self) -> Iterator[str]:
        """The texts, one after the other."""
        return read_texts(self._texts)


def read_texts(path: Path) -> Iterator[str]:
    """What :func:`write_texts` wrote, one text after the other."""
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def write_texts(path: Path, texts: Iterable[str]) -> int:
    """Write texts as JSON Lines; returns how many there were."""
    count = 0
    with path.open("w", encoding="utf-8") as stream:
        for text in texts:
            stream.write(json.dumps(text, ensure_ascii=False) + "\n")
            count += 1
    return count


def build_transfer_set(
    result: Path,
    run: Workspace,
    *,
    data: TrainingData,
    augment: int,
    kinds: tuple[AugmentKind, ...],
    seed: int,
    own: OwnTexts | None,
    replacements: Path | None = None,
    generated: Path | None = None,
) -> None:
    """The stage: texts, and labels where they have one.

    Args:
        result: folder to fill.
        run: is told how many there are.
        data: only ``train`` is read.
        augment: variations of each text.
        kinds: how they are made.
        seed: of the variations.
        own: further texts of the user's.
        replacements: folder of the words that each word can be replaced with, where a kind asks.
        generated: folder of texts that a language model wrote.
    """
    words = None
    if replacements is not None:
        words = json.loads((replacements / REPLACEMENTS_NAME).read_text(encoding="utf-8"))
    train = data.train
    made = augmented(train.texts, train.labels.tolist(), augment, seed, kinds, words)
    written = () if generated is None else read_texts(generated / TEXTS_NAME)
    more = () if own is None else own.texts()
    count = write_texts(result / TEXTS_NAME, chain(train.texts, made, written, more))
    shape = (count - len(train), *train.labels.shape[1:])
    unlabelled = np.full(shape, UNLABELLED, dtype=np.int64)
    np.save(result / LABELS_NAME, np.concatenate([train.labels, unlabelled]))
    run.tell(f"{count} texts, {len(train)} of them labelled")
