"""Narrower hidden states: projected so that the model says nearly what it said."""

import copy

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from conftest import LABELS, eight_headed_bert, tiny_rows
from optimize import Classifier, settings
from optimize.bundle.onnx_header import read_facts
from optimize.distill.width import narrow_width
from optimize.models.encoder import StudentError
from optimize.models.mean_pooled_bert import mean_pooled
from optimize.models.observe import observed
from optimize.pipeline.runner import Build, Runner

TEXTS = [text for text, _ in tiny_rows(48)]
HELD_OUT = [text for text, _ in tiny_rows(48, start=48)]


@pytest.fixture(scope="module")
def learned(tiny_tokenizer):
    """A BERT that tells the labels apart: one of random weights says the same of every text."""
    made = eight_headed_bert(tiny_tokenizer)
    batch = tiny_tokenizer(TEXTS, padding=True, return_tensors="pt")
    labels = torch.tensor([LABELS.index(label) for _, label in tiny_rows(48)])
    optimizer = torch.optim.AdamW(made.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        made(**batch, labels=labels).loss.backward()
        optimizer.step()
    return made.eval()


@pytest.fixture
def model(learned):
    return copy.deepcopy(learned)


def logits(model, tokenizer, texts=HELD_OUT):
    with torch.no_grad():
        return model(**tokenizer(texts, padding=True, return_tensors="pt")).logits


def narrow(model, tokenizer, texts, width):
    return narrow_width(model, observed(model, tokenizer, texts, 32), width)


def likeness(before, after):
    """Correlation of what differs from text to text."""
    pair = torch.stack([(each - each.mean(dim=0)).flatten() for each in (before, after)])
    return float(torch.corrcoef(pair)[0, 1])


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_it_says_nearly_what_it_said(model, tiny_tokenizer, pooling):
    model = mean_pooled(model).eval() if pooling == "mean" else model
    before = logits(model, tiny_tokenizer)
    share = narrow(model, tiny_tokenizer, TEXTS, 24)
    assert 0.9 < share < 1
    assert likeness(before, logits(model, tiny_tokenizer)) > 0.9
    assert model.config.hidden_size == 24
    assert model.config.num_attention_heads == 6


def test_heads_that_say_nothing_go_first(model, tiny_tokenizer):
    silent = torch.arange(4, 12)  # the second and third of eight
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            layer.attention.self.value.weight[silent] = 0
            layer.attention.self.value.bias[silent] = 0
    narrow(model, tiny_tokenizer, TEXTS, 24)
    for layer in model.bert.encoder.layer:
        assert (layer.attention.self.value.weight.norm(dim=1) > 0).all()


def test_more_is_kept_by_a_wider_one(model, tiny_tokenizer):
    before, found = logits(model, tiny_tokenizer), []
    for width in (8, 16, 28):
        fresh = copy.deepcopy(model)
        narrow(fresh, tiny_tokenizer, TEXTS, width)
        found.append(likeness(before, logits(fresh, tiny_tokenizer)))
    assert found == sorted(found)


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_it_is_saved_and_loaded(model, tiny_tokenizer, tmp_path, pooling):
    model = mean_pooled(model).eval() if pooling == "mean" else model
    narrow(model, tiny_tokenizer, TEXTS, 16)
    model.save_pretrained(tmp_path / "narrow")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "narrow").eval()
    torch.testing.assert_close(logits(loaded, tiny_tokenizer), logits(model, tiny_tokenizer))


def test_padding_has_no_say(model, tiny_tokenizer, monkeypatch):
    texts = ["refund", "please track my order now", "refund now"] * 8
    found = []
    for batch in (1, len(texts)):
        monkeypatch.setattr("optimize.models.observe.BATCH", batch)
        fresh = copy.deepcopy(model)
        narrow(fresh, tiny_tokenizer, texts, 16)
        found.append(logits(fresh, tiny_tokenizer))
    torch.testing.assert_close(*found, atol=1e-3, rtol=1e-3)


def test_long_texts_are_read_until_there_are_enough(model, tiny_tokenizer, monkeypatch):
    """All states of many long texts do not fit into memory."""
    monkeypatch.setattr("optimize.models.observe.BATCH", 1)
    monkeypatch.setattr("optimize.distill.width.TOKENS", 100)
    asked = []
    model.register_forward_pre_hook(lambda *_: asked.append(1))
    narrow(model.train(), tiny_tokenizer, TEXTS, 16)
    assert 5 < len(asked) < 25
    assert model.training


@pytest.mark.parametrize("width", [32, 36, 18])
def test_widths_that_cannot_be(model, tiny_tokenizer, width):
    with pytest.raises(StudentError, match=rf"width = {width}.* 32 wide, in heads of 4; ask for a"):
        narrow(model, tiny_tokenizer, TEXTS, width)


def test_another_family(tiny_tokenizer):
    config = DistilBertConfig(vocab_size=60, dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    with pytest.raises(StudentError, match="needs a BERT, and the student is a DistilBert"):
        narrow(DistilBertForSequenceClassification(config), tiny_tokenizer, TEXTS, 16)


@pytest.mark.whole
def test_the_whole_chain(tiny_recipe, tiny_cache, tmp_path):
    """It learns the tiny task, and INT8 has its attention in one piece."""
    changes = (
        "student.width=16", "student.feed_forward=32", "distill.epochs=40",
        "distill.learning_rate=2e-2", 'quantize.compare="none"',
    )  # fmt: skip
    chosen, _ = settings.load(str(tiny_recipe), tmp_path, changes)
    kit = Build(chosen, Runner(lambda line: None, tiny_cache)).folder("kit")
    bundle = Classifier(kit / "student-int8", threads=1)
    given = [answer.label for answer in bundle.predict([f"please {word} my" for word in LABELS])]
    assert given == list(LABELS)
    operators = read_facts((kit / "student-int8" / "model.onnx").read_bytes()).operators
    assert "com.microsoft:QAttention" in operators
