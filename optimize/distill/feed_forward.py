"""A student whose feed-forward layers are narrower: the neurons that say most are kept.

A neuron says as much as the mean size of its activation over some texts, times the length of the
weights that carry it on: what it adds to the layer's output (Muralidharan et al. 2024, "Compact
Language Models via Pruning and Knowledge Distillation", section 2.2, with the second weights).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from optimize.models.encoder import StudentError, layer_stack
from optimize.models.observe import mean_over_tokens

# Names of the two matrices in the families' layers, and of the width in their configurations.
WIDENING = ("intermediate.dense", "ffn.lin1")
NARROWING = ("output.dense", "ffn.lin2")
WIDTH_KEYS = ("intermediate_size", "hidden_dim")


def narrow_feed_forward(model: PreTrainedModel, answering: Generator[Tensor], width: int) -> int:
    """Keep ``width`` neurons of each layer's feed-forward, in place.

    Args:
        model: an encoder of BERT's or DistilBERT's layers.
        answering: has it answer the texts that activations are read on, see
            :func:`optimize.models.observe.observed`.
        width: neurons to keep.

    Returns:
        How many there were.

    Raises:
        StudentError: the layers are of another kind, or narrower already.
    """
    pairs, before = feed_forwards(model, width)
    said = mean_over_tokens(answering, {narrowing: torch.abs for _, narrowing in pairs})
    for (widening, narrowing), activation in zip(pairs, said, strict=True):
        importance = activation * narrowing.weight.norm(dim=0)
        kept = importance.topk(width).indices.sort().values
        keep_units(widening, kept, dimension=0)
        keep_units(narrowing, kept, dimension=1)
    for key in WIDTH_KEYS:
        if hasattr(model.config, key):
            setattr(model.config, key, width)
    return before


def feed_forwards(
    model: PreTrainedModel, width: int
) -> tuple[list[tuple[nn.Linear, nn.Linear]], int]:
    """The two matrices of each feed-forward, and how many neurons there are.

    Raises:
        StudentError: the layers are of another kind, or narrower than ``width`` already.
    """
    try:
        layers = layer_stack(model)[2]
    except StudentError as error:
        raise StudentError(
            f'student.feed_forward = {width}: {error}; set student.feed_forward = "all"'
        ) from error
    pairs = [(_named(layer, WIDENING), _named(layer, NARROWING)) for layer in layers]
    before = int(pairs[0][0].out_features)
    if width > before:
        raise StudentError(
            f"student.feed_forward = {width}, but the model's layers have {before}; ask for fewer"
        )
    return pairs, before


def _named(layer: nn.Module, names: Sequence[str]) -> nn.Linear:
    for name in names:
        module: object = layer
        for part in name.split("."):
            module = getattr(module, part, None)
        if isinstance(module, nn.Linear):
            return module
    raise StudentError(
        f"student.feed_forward: a {type(layer).__name__} has no {' or '.join(names)}; "
        'set student.feed_forward = "all"'
    )


def keep_units(linear: nn.Linear, kept: Tensor, dimension: int) -> None:
    """Keep rows (0) or columns (1) of a matrix, in place."""
    with torch.no_grad():
        linear.weight = nn.Parameter(linear.weight.index_select(dimension, kept).clone())
        if dimension == 0 and linear.bias is not None:
            linear.bias = nn.Parameter(linear.bias[kept].clone())
    linear.out_features, linear.in_features = linear.weight.shape
