"""A model that answers some texts without learning, watched by the hooks of whoever asks."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence

import torch
from torch import Tensor, nn
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


def mean_over_tokens(
    answering: Generator[Tensor], asked: Mapping[nn.Module, Callable[[Tensor], Tensor]]
) -> list[Tensor]:
    """What is asked of the states that some parts of a model read, as a mean over all real tokens.

    Args:
        answering: has the model answer, see :func:`observed`.
        asked: of each part, given its input of shape (tokens, width), a row a token.

    Returns:
        A vector a part, in the order of ``asked``.
    """
    latest: dict[nn.Module, Tensor] = {}

    def read(part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        latest[part] = inputs[0]

    handles = [part.register_forward_pre_hook(read) for part in asked]
    sums: dict[nn.Module, Tensor] = {}
    count = 0
    for mask in answering:
        count += int(mask.sum())
        for part, of in asked.items():
            found = of(latest[part][mask]).sum(dim=0)
            sums[part] = sums[part] + found if part in sums else found
    for handle in handles:
        handle.remove()
    return [sums[part] / max(1, count) for part in asked]
