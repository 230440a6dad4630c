"""Learning rates by depth and by step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, get_linear_schedule_with_warmup
from transformers.trainer_pt_utils import get_parameter_names

from optimize.models.encoder import StudentError, layer_stack


def parameter_groups(
    model: nn.Module, learning_rate: float, layer_decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Groups for an optimizer: the head learns fastest, each layer below by ``layer_decay`` slower.

    Layer-wise learning rates of Howard and Ruder 2018, "ULMFiT", section 3.2. Biases and
    normalisation are not decayed. Frozen parameters are left out.

    Args:
        model: an encoder classifier.
        learning_rate: of the head.
        layer_decay: factor from each layer to the one below, in (0, 1].
        weight_decay: of the weights.
    """
    decayed = set(get_parameter_names(model, [nn.LayerNorm], ["bias", "norm"]))
    depths = _depths(model) if layer_decay < 1 else {}
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (depths.get(id(parameter), 0), name in decayed)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": learning_rate * layer_decay**depth,
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (depth, decays), parameters in groups.items()
    ]


def linear_schedule(optimizer: torch.optim.Optimizer, steps: int, warmup_ratio: float) -> LambdaLR:
    """A learning rate that rises linearly from 0, and falls linearly to 0 at the last step.

    Trainer's own argument for the share of the rise has other names in transformers 4 and 5.

    Args:
        optimizer: whose groups keep their ratios.
        steps: of the whole training.
        warmup_ratio: share of them in which it rises, in [0, 1].
    """
    rising = math.ceil(steps * warmup_ratio)
    schedule: LambdaLR = get_linear_schedule_with_warmup(optimizer, rising, steps)
    return schedule


def _depths(model: nn.Module) -> dict[int, int]:
    """Layers from the head down to each parameter of the encoder, by the parameter's identity."""
    if not isinstance(model, PreTrainedModel):
        raise StudentError(f"{type(model).__name__} has no layers; set distill.layer_decay = 1")
    stack = layer_stack(model)[2]
    depths = {id(weight): len(stack) + 1 for weight in model.base_model.parameters()}
    for place, layer in enumerate(stack):
        depths |= {id(weight): len(stack) - place for weight in layer.parameters()}
    pooler = getattr(model.base_model, "pooler", None)
    if isinstance(pooler, torch.nn.Module):
        depths |= {id(weight): 0 for weight in pooler.parameters()}
    return depths
