"""A student with fewer heads of attention in each layer: those stay that say most.

A head says as much as the mean length of what it adds to the layer's output over the tokens of some
texts: its vector times its columns of the output matrix. (Michel et al. 2019, "Are Sixteen Heads
Really Better than One?", section 4, ask the same of gradients; this needs no labels.) A head keeps
its size, so queries, keys, values and the output matrix shrink with their number. transformers 4
has ``prune_heads`` and ``pruned_heads`` for that; version 5 has neither, and loads no such BERT.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from optimize.distill.feed_forward import keep_units
from optimize.models.encoder import StudentError
from optimize.models.mean_pooled_bert import (
    MeanPooledBert,
    check_bert,
    head_size,
    heads_of,
    set_heads,
)
from optimize.models.observe import mean_over_tokens


def prune_heads(model: PreTrainedModel, answering: Generator[Tensor], heads: int) -> int:
    """Keep so many heads of each layer's attention, in place.

    Args:
        model: a BERT that answers from the mean of its tokens.
        answering: has it answer the texts that the heads' vectors are read on, see
            :func:`optimize.models.observe.observed`.
        heads: to keep in each layer.

    Returns:
        How many there were.

    Raises:
        StudentError: another model, or one that has not so many.
    """
    check_heads(model, heads)
    config: Any = model.config
    base: Any = model.base_model
    size, before = head_size(config), heads_of(config)
    attentions = [layer.attention for layer in base.encoder.layer]
    outputs = [attention.output.dense for attention in attentions]
    said = mean_over_tokens(answering, {output: _lengths(output, size) for output in outputs})
    for attention, lengths in zip(attentions, said, strict=True):
        kept = lengths.topk(heads).indices.sort().values
        places = (kept[:, None] * size + torch.arange(size)).flatten()
        for name in ("query", "key", "value"):
            keep_units(getattr(attention.self, name), places, dimension=0)
        keep_units(attention.output.dense, places, dimension=1)
        set_heads(attention, heads)
    config.kept_heads = heads
    return before


def check_heads(
    model: PreTrainedModel, heads: int, pooling: str | None = None, width: int | None = None
) -> None:
    """Refuse a number of heads that a student cannot be cut to.

    Args:
        model: a BERT classifier; its weights are not looked at.
        heads: to keep in each layer.
        pooling: ``student.pooling``.
        width: of its hidden states when they are cut; as they are when ``None``.

    Raises:
        StudentError: see :func:`prune_heads`.
    """
    check_bert(model, "student.heads", heads)
    if pooling != "mean" and not isinstance(model, MeanPooledBert):
        raise StudentError(
            f"student.heads = {heads}: transformers 5 can load no BERT with fewer heads, and this "
            'project\'s own answers from the mean; set student.pooling = "mean" too, or '
            'student.heads = "all"'
        )
    config: Any = model.config
    before = min(heads_of(config), (width or config.hidden_size) // head_size(config))
    if heads > before:
        raise StudentError(
            f"student.heads = {heads}, but the model's layers have {before}; ask for fewer"
        )


def _lengths(output: nn.Linear, size: int) -> Callable[[Tensor], Tensor]:
    """Of each token's vectors, a row a token: how long what each head adds is, a column a head."""
    weight = output.weight.detach().reshape(output.out_features, -1, size)
    gram = torch.einsum("ohs,oht->hst", weight, weight)

    def lengths(context: Tensor) -> Tensor:
        vectors = context.reshape(len(context), -1, size)
        squares = torch.einsum("nhs,hst,nht->nh", vectors, gram, vectors)
        return squares.clamp_min(0).sqrt()

    return lengths
