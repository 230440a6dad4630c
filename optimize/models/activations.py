"""Inner states of a model that losses read: the pooled embedding, hidden states, relations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from optimize.models.encoder import StudentError, classification_head, layer_stack

# What the families call the linear layers that make queries, keys and values.
QUERY_NAMES = ("query", "q", "q_lin", "q_proj")
KEY_NAMES = ("key", "k", "k_lin", "k_proj")
VALUE_NAMES = ("value", "v", "v_lin", "v_proj")
RELATION_KEYS = ("queries", "keys", "values")


def check_relations(model: PreTrainedModel, layer: int | None) -> None:
    """Refuse a layer whose queries, keys and values cannot be noted.

    Args:
        model: an encoder classifier; its weights are not looked at.
        layer: counted from 1; ``None`` is the last.

    Raises:
        StudentError: it has not so many layers, or is of another family.
    """
    stack = layer_stack(model)[2]
    if layer is not None and layer > len(stack):
        raise StudentError(
            f"distill.relation_layer = {layer}, and the teacher has {len(stack)} layers; set it to "
            f"at most {len(stack)}, or leave it out for the last"
        )
    _projections(stack[(layer or len(stack)) - 1])


class Activations:
    """Hooks on a model that note its inner states in every forward pass.

    Args:
        model: an encoder classifier.
        hidden: layers whose output is noted, counted from 1.
        relations: layer whose queries, keys and values are noted; ``None`` notes none.

    Attributes:
        pooled_width: of the vector that the head reads.
        relation_width: of the queries of all heads; 0 where none are noted.
    """

    def __init__(
        self, model: PreTrainedModel, hidden: Sequence[int] = (), relations: int | None = None
    ) -> None:
        self._layers = tuple(hidden)
        self._seen: dict[Any, Tensor] = {}
        head = classification_head(model)
        self.pooled_width = head.in_features
        self.relation_width = 0
        self._handles = [head.register_forward_pre_hook(self._note_input("pooled"))]
        if hidden or relations is not None:
            stack = layer_stack(model)[2]
            for layer in hidden:
                self._handles.append(stack[layer - 1].register_forward_hook(self._note(layer)))
            if relations is not None:
                three = _projections(stack[relations - 1])
                self.relation_width = three[0].out_features
                for key, module in zip(RELATION_KEYS, three, strict=True):
                    self._handles.append(module.register_forward_hook(self._note(key)))

    @property
    def pooled(self) -> Tensor:
        """Shape (batch, width)."""
        return self._seen["pooled"]

    @property
    def hidden(self) -> list[Tensor]:
        """One tensor a layer asked for, shape (batch, tokens, width)."""
        return [self._seen[layer] for layer in self._layers]

    @property
    def relations(self) -> list[Tensor]:
        """Queries, keys and values where asked for, each of shape (batch, tokens, width)."""
        return [self._seen[key] for key in RELATION_KEYS if key in self._seen]

    def clear(self) -> None:
        """Let go of what was noted."""
        self._seen.clear()

    def remove(self) -> None:
        """Take the hooks off the model."""
        for handle in self._handles:
            handle.remove()
        self.clear()

    def _note(self, key: Any) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            self._seen[key] = output[0] if isinstance(output, tuple) else output

        return hook

    def _note_input(self, key: Any) -> Any:
        def hook(_module: nn.Module, inputs: Any) -> None:
            self._seen[key] = inputs[0]

        return hook


def _projections(layer: nn.Module) -> list[nn.Linear]:
    found = []
    for names in (QUERY_NAMES, KEY_NAMES, VALUE_NAMES):
        linear = [
            module
            for path, module in layer.named_modules()
            if path.rpartition(".")[2] in names and isinstance(module, nn.Linear)
        ]
        if len(linear) != 1:
            raise StudentError(
                f"{type(layer).__name__} has no linear layer called {' or '.join(names)}, or "
                "several; set distill.relations = 0"
            )
        found += linear
    return found


def joined(states: Sequence[Tensor]) -> Tensor:
    """States of equal shape side by side, shape (batch, tokens, states · width)."""
    return torch.cat(list(states), dim=-1)
