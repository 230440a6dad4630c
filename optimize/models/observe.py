"""A model that answers some texts without learning, watched by the hooks of whoever asks."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from optimize.bundle.texts import evenly
from optimize.models.inputs import tokenizer_inputs

# So many texts say what a model's parts are worth; more of them change it little.
TEXTS, BATCH = 512, 32


def observed(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    max_length: int,
    *,
    text_pairs: bool = False,
) -> Generator[Tensor]:
    """Answer some of the texts, without dropout or gradients.

    Args:
        model: is left in the mode that it was in.
        tokenizer: its own.
        texts: :data:`TEXTS` of them are read, evenly spaced.
        max_length: longest input in tokens.
        text_pairs: whether each text is a pair.

    Yields:
        After each batch where its real tokens are, shape (batch, tokens), boolean.
    """
    training = model.training
    model.eval()
    try:
        read = evenly(texts, TEXTS)
        for start in range(0, len(read), BATCH):
            inputs = tokenizer_inputs(read[start : start + BATCH], pairs=text_pairs)
            batch = tokenizer(
                *inputs, padding=True, truncation=True, max_length=max_length, return_tensors="pt"
            )
            with torch.no_grad():
                model(**batch)
            yield batch["attention_mask"].bool()
    finally:  # whoever has seen enough may stop before the last batch
        model.train(training)
