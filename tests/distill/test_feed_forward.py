"""Narrower feed-forwards: the neurons that say nothing go first."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification as Classifiers
from transformers import AutoTokenizer, DistilBertConfig, DistilBertForSequenceClassification

from conftest import save_tiny_backbone
from optimize.distill.feed_forward import narrow_feed_forward
from optimize.models.encoder import StudentError
from optimize.models.observe import observed

TEXTS = ["please track my order", "refund", "cancel the thing now"]


@pytest.fixture
def pair(tmp_path):
    folder = save_tiny_backbone(tmp_path / "backbone")
    return Classifiers.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


def logits(model, tokenizer):
    with torch.inference_mode():
        return model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits


def narrow(model, tokenizer, width):
    return narrow_feed_forward(model, observed(model, tokenizer, TEXTS, 32), width)


def test_neurons_that_carry_nothing_on_are_dropped_first(pair):
    model, tokenizer = pair
    silent = torch.arange(0, 64, 2)
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            layer.output.dense.weight[:, silent] = 0
    expected = logits(model, tokenizer)
    assert narrow(model, tokenizer, 32) == 64
    torch.testing.assert_close(logits(model, tokenizer), expected)
    assert model.config.intermediate_size == 32
    assert model.bert.encoder.layer[0].intermediate.dense.out_features == 32


def test_it_is_saved_and_loaded(pair, tmp_path):
    model, tokenizer = pair
    narrow(model, tokenizer, 24)
    model.save_pretrained(tmp_path / "narrow")
    loaded = Classifiers.from_pretrained(tmp_path / "narrow").eval()
    torch.testing.assert_close(logits(loaded, tokenizer), logits(model, tokenizer))


def test_distilbert(pair):
    config = DistilBertConfig(
        vocab_size=len(pair[1]), dim=32, n_layers=1, n_heads=2, hidden_dim=64, num_labels=3
    )
    model = DistilBertForSequenceClassification(config)
    tokenizer = pair[1]
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    narrow(model, tokenizer, 16)
    assert model.distilbert.transformer.layer[0].ffn.lin1.out_features == 16
    assert model.config.hidden_dim == 16


def test_more_neurons_than_there_are(pair):
    with pytest.raises(StudentError, match=r"feed_forward = 65, but the model's layers have 64"):
        narrow(*pair, 65)
