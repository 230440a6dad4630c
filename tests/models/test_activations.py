"""Inner states of the families that students come from, and learning rates by depth."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from optimize.models.activations import Activations
from optimize.models.depth import mapped_layers
from optimize.models.encoder import StudentError, chosen_layers, set_dropout
from optimize.settings.training import StudentSettings
from optimize.training.optimizer import parameter_groups

SMALL = {"vocab_size": 40, "num_labels": 3}
BERT_LIKE = {
    **SMALL,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
}
FAMILIES = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**BERT_LIKE)),
    "roberta": lambda: RobertaForSequenceClassification(RobertaConfig(**BERT_LIKE)),
    "mpnet": lambda: MPNetForSequenceClassification(MPNetConfig(**BERT_LIKE)),
    "distilbert": lambda: DistilBertForSequenceClassification(
        DistilBertConfig(**SMALL, dim=16, n_layers=3, n_heads=2, hidden_dim=32)
    ),
}
families = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture
def model(family):
    torch.manual_seed(0)
    return FAMILIES[family]().eval()


def answered(model):
    ids = torch.arange(5, 17).view(2, 6)
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)


@families
def test_states_are_the_models_own(model):
    activations = Activations(model, hidden=(1, 3), relations=3)
    said = answered(model)
    assert activations.pooled.shape == (2, activations.pooled_width) == (2, 16)
    for ours, theirs in zip(
        activations.hidden, (said.hidden_states[1], said.hidden_states[3]), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
    assert [tuple(state.shape) for state in activations.relations] == [(2, 6, 16)] * 3
    queries, keys, values = activations.relations
    assert not torch.allclose(queries, keys)
    assert not torch.allclose(keys, values)


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@families
def test_removed_hooks_leave_the_model_as_it_was(model):
    answered(model)  # transformers 5 leaves hooks of its own at the first call
    before = hooks_of(model)
    activations = Activations(model, hidden=(1, 2, 3), relations=1)
    assert hooks_of(model) > before
    activations.remove()
    answered(model)
    assert activations.relations == []
    assert hooks_of(model) == before


@pytest.mark.parametrize("family", ["bert"])
def test_layer_without_queries_is_refused(model):
    model.bert.encoder.layer[0].attention.self.query = torch.nn.Identity()
    with pytest.raises(StudentError, match=r"set distill\.relations = 0"):
        Activations(model, relations=1)


@given(st.integers(1, 12), st.integers(1, 24))
def test_the_last_layer_stands_for_the_last_and_order_is_kept(student, teacher):
    own = StudentSettings(checkpoint="elsewhere")
    layers = mapped_layers(own, student, teacher)
    assert len(layers) == student
    assert layers[-1] == teacher
    assert list(layers) == sorted(layers)
    assert all(1 <= layer <= teacher for layer in layers)


def test_layer_map_by_hand():
    own = StudentSettings(checkpoint="elsewhere")
    assert mapped_layers(own, 3, 12) == (4, 8, 12)
    assert mapped_layers(own, 6, 12) == (2, 4, 6, 8, 10, 12)


@pytest.mark.parametrize("layers", [1, 2, 4, 5, 6, [1, 3, 6], [1, 2], None])
def test_a_layer_of_the_teachers_own_is_taught_by_itself(layers):
    """Also where the depths do not divide, and for layers that were named."""
    kept = chosen_layers(layers or 6, 6)
    assert mapped_layers(StudentSettings(layers=layers), len(kept), 6) == kept


@families
def test_rates_fall_from_the_head_down(model):
    groups = parameter_groups(model, 1.0, 0.5, 0.1)
    named = {id(weight): name for name, weight in model.named_parameters()}
    rates = {named[id(weight)]: group["lr"] for group in groups for weight in group["params"]}
    assert rates.keys() == dict(model.named_parameters()).keys()
    by_depth = {
        "embeddings.": 0.5**4,
        "layer.0.": 0.5**3,
        "layer.1.": 0.5**2,
        "layer.2.": 0.5,
        "classifier.": 1.0,
    }
    for part, rate in by_depth.items():
        found = {value for name, value in rates.items() if part in name}
        assert found == {rate}, part


@families
def test_biases_and_norms_are_not_decayed_and_the_frozen_left_out(model):
    model.get_input_embeddings().requires_grad_(requires_grad=False)
    groups = parameter_groups(model, 1.0, 1.0, 0.1)
    named = {id(weight): name for name, weight in model.named_parameters()}
    decays = {
        named[id(weight)]: group["weight_decay"] for group in groups for weight in group["params"]
    }
    assert not any("word_embeddings" in name for name in decays)
    assert all(
        (decay == 0.0) == ("bias" in name or "norm" in name.lower())
        for name, decay in decays.items()
    ), decays


@families
def test_dropout_reaches_fused_attention_too(model):
    set_dropout(model, 0.0)
    model.train()
    first, second = answered(model).logits, answered(model).logits
    torch.testing.assert_close(first, second, rtol=0, atol=0)
