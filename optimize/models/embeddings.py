"""Words that mean nearly the same, by a model's own embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

NEAREST = 8


def nearest_words(
    words: Sequence[str], vectors: NDArray[np.float32], count: int = NEAREST
) -> dict[str, list[str]]:
    """By word, the others whose embeddings are nearest by cosine, the nearest first.

    Args:
        words: distinct words.
        vectors: their embeddings, shape (words, width).
        count: neighbours of each.
    """
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(norms, 1e-12)
    found: dict[str, list[str]] = {}
    for start in range(0, len(words), 1024):
        likeness = unit[start : start + 1024] @ unit.T
        likeness[np.arange(len(likeness)), np.arange(start, start + len(likeness))] = -np.inf
        order = np.argsort(-likeness, axis=1)[:, : min(count, len(words) - 1)]
        for row, near in enumerate(order):
            found[words[start + row]] = [words[place] for place in near]
    return found


def word_replacements(
    texts: Iterable[str], model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast
) -> dict[str, list[str]]:
    """For the words of the texts that are single tokens: the nearest of them by embedding.

    Args:
        texts: whose words replace each other.
        model: its input embeddings are compared.
        tokenizer: its own.
    """
    unknown = tokenizer.unk_token_id
    ids: dict[str, int] = {}
    for word in sorted({word for text in texts for word in text.casefold().split()}):
        (pieces,) = tokenizer([word], add_special_tokens=False)["input_ids"]
        if len(pieces) == 1 and pieces[0] != unknown:
            ids[word] = pieces[0]
    weights: Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]
    vectors = weights.detach()[list(ids.values())].float().numpy()
    return nearest_words(list(ids), vectors)
