"""What one must know of an encoder's inside: its layers, its head, its dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

LAYER_COUNT_KEYS = ("num_hidden_layers", "n_layers")


class StudentError(ValueError):
    """A student that cannot be made as asked; the message gives values and remedy."""


def set_dropout(model: torch.nn.Module, share: float) -> None:
    """Every dropout of a model, those inside fused attention included, which are mere numbers."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share
        if isinstance(getattr(module, "dropout_prob", None), float):
            module.dropout_prob = share  # type: ignore[assignment]


def parameter_count(model: torch.nn.Module) -> int:
    """Number of weights, shared ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def keep_layers(model: PreTrainedModel, layers: int | Sequence[int] | None) -> None:
    """Drop encoder layers in place.

    Args:
        model: any encoder whose layers are one ``ModuleList`` (BERT, DistilBERT, MiniLM, MPNet,
            RoBERTa and their like).
        layers: how many, or which, counted from 1; ``None`` keeps all.

    Raises:
        StudentError: no such layer list, a layer that does not exist, or one that would be another
            kind of layer in its new place.
    """
    if layers is None:
        return
    owner, name, stack = layer_stack(model)
    chosen = chosen_layers(layers, len(stack))
    _check_kinds(model.config, chosen)
    setattr(owner, name, torch.nn.ModuleList(stack[layer - 1] for layer in chosen))
    for key in LAYER_COUNT_KEYS:
        if hasattr(model.config, key):
            setattr(model.config, key, len(chosen))
    if isinstance(kinds := getattr(model.config, "layer_types", None), list):
        model.config.layer_types = [kinds[layer - 1] for layer in chosen]


def _check_kinds(config: Any, chosen: Sequence[int]) -> None:
    """Refuse a cut after which a layer is read back as another one.

    ModernBERT's layers are what they are by their place: the first one has no norm, and every third
    one attends to all tokens, the others to their neighbours (Warner et al. 2024, section 2.1).
    """
    period = getattr(config, "global_attn_every_n_layers", None)
    if not period and config.model_type.startswith("modernbert"):
        period = 3  # what transformers 5 takes where a configuration does not say it
    if not period:
        return

    def kind(place: int) -> tuple[bool, bool]:
        return place == 1, (place - 1) % period == 0

    if any(kind(now) != kind(then) for now, then in enumerate(chosen, start=1)):
        first = list(range(1, len(chosen) + 1))
        raise StudentError(
            f"student.layers = {list(chosen)} of a {config.model_type}: its layer 1 has no norm, "
            f"and 1, {1 + period}, {1 + 2 * period}, … attend to all tokens, so that these would "
            f"be others in their new places. Set student.layers = {first}, or others that stay of "
            "their kind"
        )


def chosen_layers(layers: int | Sequence[int], available: int) -> tuple[int, ...]:
    """Layers to keep, counted from 1 and rising.

    A number n of N takes the layers N/n, 2N/n, … N, so that each stands for as many of the model's
    (the uniform map of Jiao et al. 2020, "TinyBERT", section 3.1).

    Raises:
        StudentError: more layers than there are, or one out of range or twice.
    """
    if isinstance(layers, int):
        if not 1 <= layers <= available:
            raise StudentError(
                f"student.layers = {layers}, but the model has {available} layers; ask for 1 to "
                f"{available}"
            )
        return tuple(index * available // layers for index in range(1, layers + 1))
    chosen = tuple(layers)
    if (
        not chosen
        or list(chosen) != sorted(set(chosen))
        or not set(chosen) <= set(range(1, available + 1))
    ):
        raise StudentError(
            f"student.layers = {list(chosen)}: layers are counted from 1 to {available}, each "
            "once, in rising order"
        )
    return chosen


def classification_head(model: PreTrainedModel) -> torch.nn.Linear:
    """The last layer: from the pooled embedding to the logits.

    Raises:
        StudentError: the model has no linear layer that answers as many values as it has labels.
    """
    heads = [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module.out_features == model.config.num_labels
    ]
    if not heads:
        raise StudentError(
            f"{type(model).__name__} has no linear head of {model.config.num_labels} labels; set "
            "distill.pooled = 0"
        )
    return heads[-1]


def layer_stack(model: PreTrainedModel) -> tuple[torch.nn.Module, str, torch.nn.ModuleList]:
    """The encoder's list of layers, the module that owns it, and its name there.

    Raises:
        StudentError: the model has no such list.
    """
    base = model.base_model
    for path in ("encoder.layer", "transformer.layer", "encoder.layers", "layers"):
        parent_path, _, name = path.rpartition(".")
        parent = getattr(base, parent_path, None) if parent_path else base
        stack = getattr(parent, name, None)
        if isinstance(stack, torch.nn.ModuleList) and parent is not None:
            return parent, name, stack
    raise StudentError(
        f"{type(model).__name__} has no list of encoder layers that could be cut; set "
        'student.layers = "all", or give student.checkpoint a smaller model'
    )
