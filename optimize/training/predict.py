"""What a trained PyTorch model says of some texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from optimize.bundle.folder import read_manifest
from optimize.models.checkpoint import load_classifier, load_tokenizer
from optimize.training.batches import TOKENS_PER_BATCH, token_batches
from optimize.training.tokens import tokenise


def logits_of(folder: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    """Logits of shape (texts, labels), in fp32.

    Args:
        folder: a model that a stage has left, with its manifest.
        texts: in any order.
    """
    model, tokenizer = load_classifier(str(folder)).eval(), load_tokenizer(str(folder))
    manifest = read_manifest(folder)
    found = np.empty((len(texts), len(manifest.labels)), dtype=np.float32)
    with TemporaryDirectory() as work, torch.inference_mode():
        tokens = tokenise(
            texts, tokenizer, manifest.max_length, Path(work), pairs=manifest.text_pair
        )
        for rows in token_batches(tokens.lengths, TOKENS_PER_BATCH):
            found[rows] = model(**tokens.batch(rows)).logits.numpy()
    return found
