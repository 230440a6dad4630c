"""The last layer of an encoder for one token alone, where the answer is read from the first.

A head that reads the first token leaves what the last layer makes of the others unused. Of that
layer only keys and values are needed for all tokens: a sixth of its products where the feed-forward
block is four times as wide as the states. Answers and gradients stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from optimize.models.encoder import layer_stack

# Families whose classifier reads the first token, and whose attention takes queries from other
# states than keys and values.
FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")


@contextmanager
def only_first_token(model: PreTrainedModel) -> Iterator[None]:
    """Within it, the last layer answers for the first token only, shape (batch, 1, width).

    Args:
        model: a sequence classifier; of another family than :data:`FAMILIES` it stays as it is.
    """
    if model.config.model_type not in FAMILIES:
        yield
        return
    layer: Any = layer_stack(model)[2][-1]

    def forward(states: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Any:
        # Eager attention has one row of the mask for all queries, others one a query.
        mask = None if attention_mask is None else attention_mask[..., :1, :]
        attended = layer.attention(states[:, :1], mask, encoder_hidden_states=states)[0]
        return (layer.feed_forward_chunk(attended),)

    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward
