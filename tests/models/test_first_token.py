"""The last layer for one token: the same answers and gradients, for less work."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from optimize.models.encoder import layer_stack
from optimize.models.first_token import FAMILIES, only_first_token

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_labels": 3,
    "pad_token_id": 0,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def tiny(family: str, attention: str = "sdpa") -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SIZES)
    return AutoModelForSequenceClassification.from_config(config, attn_implementation=attention)


def answers(
    model: PreTrainedModel, within: AbstractContextManager[None]
) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
    """Logits of padded texts, and the gradient of every weight."""
    ids = torch.randint(3, 50, (4, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[1, 4:] = mask[3, 1:] = 0
    model.zero_grad()
    with within:
        logits = model(input_ids=ids, attention_mask=mask).logits
    logits.pow(2).sum().backward()
    return logits.detach(), [weight.grad for weight in model.parameters()]


def feed_forward_shapes(model: PreTrainedModel) -> list[torch.Size]:
    """Filled with the shape that the last feed-forward block gets, a forward pass each."""
    seen: list[torch.Size] = []

    def note(_module: Any, inputs: Any) -> None:
        seen.append(inputs[0].shape)

    layer_stack(model)[2][-1].intermediate.register_forward_pre_hook(note)
    return seen


# ELECTRA knows eager attention alone.
@pytest.mark.parametrize(
    ("family", "attention"),
    [
        *((family, "eager") for family in FAMILIES),
        *((family, "sdpa") for family in FAMILIES if family != "electra"),
    ],
)
def test_answers_and_gradients_stay_what_they_are(family: str, attention: str) -> None:
    model = tiny(family, attention)
    shapes = feed_forward_shapes(model)
    whole, whole_gradients = answers(model, nullcontext())
    first, first_gradients = answers(model, only_first_token(model))
    assert [tuple(shape) for shape in shapes] == [(4, 9, 32), (4, 1, 32)]
    torch.testing.assert_close(first, whole)
    for ours, theirs in zip(first_gradients, whole_gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_model_is_whole_again_afterwards_whatever_happened() -> None:
    model = tiny("bert")
    shapes = feed_forward_shapes(model)
    with pytest.raises(KeyError), only_first_token(model):
        raise KeyError
    answers(model, nullcontext())
    assert [tuple(shape) for shape in shapes] == [(4, 9, 32)]


def test_another_family_is_left_as_it_is() -> None:
    config = AutoConfig.for_model("mpnet", **SIZES)
    model = AutoModelForSequenceClassification.from_config(config)
    shapes = feed_forward_shapes(model)
    answers(model, only_first_token(model))
    assert [tuple(shape) for shape in shapes] == [(4, 9, 32)]
