"""The transfer set: every text that the student learns from, written to a file.

The labelled training texts come first, in their order; then variations of them, texts that a
language model wrote, and texts of the user's own, which carry no label: the teacher speaks for
them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optimize.data.augment import augmented
from optimize.data.sources import read_unlabelled
from optimize.data.splits import UNLABELLED, Splits
from optimize.settings.recipe import DataSettings
from optimize.settings.training import DistillSettings

TEXTS_NAME = "texts.jsonl"
LABELS_NAME = "labels.npy"


class TransferSet:
    """What :func:`write_transfer_set` left in a folder.

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


def write_transfer_set(
    splits: Splits,
    settings: DistillSettings,
    source: DataSettings,
    folder: Path,
    replacements: Mapping[str, list[str]] | None = None,
    generated: Iterable[str] = (),
) -> TransferSet:
    """Write texts and labels.

    Args:
        splits: data; only ``train`` is read.
        settings: what to add to it.
        source: its ``text_column`` names the column of a file of one's own.
        folder: gets the files.
        replacements: words that each word can be replaced with, where the settings ask for it.
        generated: texts that a language model wrote.
    """
    train = splits.train
    made = augmented(
        train.texts,
        train.labels.tolist(),
        settings.augment,
        settings.seed,
        settings.augment_kinds,
        replacements,
    )
    own = (
        () if settings.transfer is None else read_unlabelled(settings.transfer, source.text_column)
    )
    count = write_texts(folder / TEXTS_NAME, chain(train.texts, made, generated, own))
    unlabelled = np.full(count - len(train), UNLABELLED, dtype=np.int64)
    np.save(folder / LABELS_NAME, np.concatenate([train.labels, unlabelled]))
    return TransferSet(folder)
