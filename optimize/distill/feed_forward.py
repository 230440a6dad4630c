"""A student whose feed-forward layers are narrower: the neurons that say most are kept.

A neuron says as much as the mean size of its activation over some texts, times the length of the
weights that carry it on: what it adds to the layer's output (Muralidharan et al. 2024, "Compact
Language Models via Pruning and Knowledge Distillation", section 2.2, with the second weights).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from optimize.models.encoder import StudentError, layer_stack
from optimize.models.inputs import tokenizer_inputs

# Names of the two matrices in the families' layers, and of the width in their configurations.
WIDENING = ("intermediate.dense", "ffn.lin1")
NARROWING = ("output.dense", "ffn.lin2")
WIDTH_KEYS = ("intermediate_size", "hidden_dim")
TEXTS, BATCH = 512, 32


def narrow_feed_forward(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    width: int,
    max_length: int,
    *,
    text_pairs: bool = False,
) -> int:
    """Keep ``width`` neurons of each layer's feed-forward, in place.

    Args:
        model: an encoder of BERT's or DistilBERT's layers.
        tokenizer: its own.
        texts: the activations are read on the first of them.
        width: neurons to keep.
        max_length: longest input in tokens.
        text_pairs: whether each text is a pair.

    Returns:
        How many there were.

    Raises:
        StudentError: the layers are of another kind, or narrower already.
    """
    pairs = [(_named(layer, WIDENING), _named(layer, NARROWING)) for layer in layer_stack(model)[2]]
    before = int(pairs[0][0].out_features)
    if width > before:
        raise StudentError(
            f"student.feed_forward = {width}, but the model's layers have {before}; ask for fewer"
        )
    inputs = [
        tokenizer_inputs(texts[start : start + BATCH], pairs=text_pairs)
        for start in range(0, len(texts[:TEXTS]), BATCH)
    ]
    said = _activations(model, tokenizer, inputs, pairs, max_length)
    for (widening, narrowing), activation in zip(pairs, said, strict=True):
        importance = activation * narrowing.weight.norm(dim=0)
        kept = importance.topk(width).indices.sort().values
        _keep(widening, kept, dimension=0)
        _keep(narrowing, kept, dimension=1)
    for key in WIDTH_KEYS:
        if hasattr(model.config, key):
            setattr(model.config, key, width)
    return before


def _named(layer: torch.nn.Module, names: Sequence[str]) -> torch.nn.Linear:
    for name in names:
        module: object = layer
        for part in name.split("."):
            module = getattr(module, part, None)
        if isinstance(module, torch.nn.Linear):
            return module
    raise StudentError(
        f"student.feed_forward: a {type(layer).__name__} has no {' or '.join(names)}; leave it out"
    )


def _activations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    inputs: Sequence[tuple[list[str], ...]],
    pairs: Sequence[tuple[torch.nn.Linear, torch.nn.Linear]],
    max_length: int,
) -> list[torch.Tensor]:
    """Mean size of each neuron's activation over all tokens, a vector a layer."""
    sums = [torch.zeros(narrowing.in_features) for _, narrowing in pairs]
    count = 0
    mask = torch.empty(0)

    def reader(place: int) -> torch.utils.hooks.RemovableHandle:
        def read(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            sums[place] += (inputs[0].abs() * mask[..., None]).sum(dim=(0, 1))

        return pairs[place][1].register_forward_pre_hook(read)

    handles = [reader(place) for place in range(len(pairs))]
    training = model.training
    model.eval()
    with torch.inference_mode():
        for each in inputs:
            batch = tokenizer(
                *each, padding=True, truncation=True, max_length=max_length, return_tensors="pt"
            )
            mask = batch["attention_mask"].float()
            model(**batch)
            count += int(mask.sum())
    model.train(training)
    for handle in handles:
        handle.remove()
    return [total / max(1, count) for total in sums]


def _keep(linear: torch.nn.Linear, kept: torch.Tensor, dimension: int) -> None:
    """Rows (0) or columns (1) of a matrix."""
    with torch.no_grad():
        linear.weight = torch.nn.Parameter(linear.weight.index_select(dimension, kept).clone())
        if dimension == 0 and linear.bias is not None:
            linear.bias = torch.nn.Parameter(linear.bias[kept].clone())
    linear.out_features, linear.in_features = linear.weight.shape
