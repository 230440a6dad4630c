"""Fewer heads of attention: those stay that say most, and the rest of the chain knows of it."""

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from conftest import LABELS, eight_headed_bert, tiny_rows
from optimize import Classifier, settings
from optimize.bundle.onnx_header import read_facts
from optimize.distill.heads import prune_heads
from optimize.distill.projections import DistillError
from optimize.distill.teacher_outputs import Wanted, score
from optimize.distill.width import narrow_width
from optimize.models.encoder import StudentError
from optimize.models.mean_pooled_bert import mean_pooled
from optimize.models.observe import observed
from optimize.pipeline.preflight import preflight
from optimize.pipeline.runner import Build, Runner
from optimize.training.soft_targets import SoftTargets
from optimize.training.tokens import tokenise

TEXTS = [text for text, _ in tiny_rows(48)]


@pytest.fixture
def first_token(tiny_tokenizer):
    return eight_headed_bert(tiny_tokenizer, initializer_range=0.2).eval()


@pytest.fixture
def model(first_token):
    return mean_pooled(first_token).eval()


def logits(model, tokenizer, texts=TEXTS):
    with torch.no_grad():
        return model(**tokenizer(texts, padding=True, return_tensors="pt")).logits


def prune(model, tokenizer, heads, texts=TEXTS):
    return prune_heads(model, observed(model, tokenizer, texts, 32), heads)


def silence(model, heads):
    """Have these heads of each layer add nothing to what the layer says."""
    columns = torch.cat([torch.arange(4 * head, 4 * head + 4) for head in heads])
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            layer.attention.output.dense.weight[:, columns] = 0


def test_without_heads_that_add_nothing_it_says_the_same(model, tiny_tokenizer):
    silence(model, (0, 3, 6))
    before = logits(model, tiny_tokenizer)
    assert prune(model, tiny_tokenizer, 5) == 8
    torch.testing.assert_close(logits(model, tiny_tokenizer), before)
    attention = model.bert.encoder.layer[0].attention
    assert attention.self.query.weight.shape == (20, 32)
    assert attention.output.dense.weight.shape == (32, 20)


def test_one_more_cut_is_heard(model, tiny_tokenizer):
    silence(model, (0, 3, 6))
    before = logits(model, tiny_tokenizer)
    prune(model, tiny_tokenizer, 4)
    assert (logits(model, tiny_tokenizer) - before).abs().max() > 1e-3


def test_what_a_head_says_is_weighed_by_what_carries_it_on(model, tiny_tokenizer):
    """A long vector that the output matrix does not read says nothing."""
    silence(model, (2,))
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            layer.attention.self.value.weight[8:12] *= 100
    kept = copy.deepcopy(model)
    prune(kept, tiny_tokenizer, 7)
    for layer, before in zip(kept.bert.encoder.layer, model.bert.encoder.layer, strict=True):
        others = [row for row in range(32) if not 8 <= row < 12]
        torch.testing.assert_close(
            layer.attention.self.value.weight, before.attention.self.value.weight[others]
        )


def test_padding_has_no_say(model, tiny_tokenizer, monkeypatch):
    texts = ["refund", "please track my order now", "refund now"] * 8
    found = []
    for batch in (1, len(texts)):
        monkeypatch.setattr("optimize.models.observe.BATCH", batch)
        fresh = copy.deepcopy(model)
        prune(fresh, tiny_tokenizer, 3, texts)
        found.append(logits(fresh, tiny_tokenizer))
    torch.testing.assert_close(*found)


def test_it_is_saved_and_loaded(model, tiny_tokenizer, tmp_path):
    prune(model, tiny_tokenizer, 5)
    model.save_pretrained(tmp_path / "few")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "few").eval()
    assert AutoConfig.from_pretrained(tmp_path / "few").kept_heads == 5
    torch.testing.assert_close(logits(loaded, tiny_tokenizer), logits(model, tiny_tokenizer))


def test_it_is_cut_again(model, tiny_tokenizer):
    prune(model, tiny_tokenizer, 5)
    assert prune(model, tiny_tokenizer, 2) == 5
    assert model.bert.encoder.layer[1].attention.self.key.weight.shape == (8, 32)
    with pytest.raises(StudentError, match=r"heads = 3, but the model's layers have 2; ask for"):
        prune(model, tiny_tokenizer, 3)


@pytest.mark.parametrize(("heads", "width", "kept"), [(6, 24, None), (3, 24, 3), (3, 8, None)])
def test_hidden_states_are_narrowed_afterwards(model, tiny_tokenizer, tmp_path, heads, width, kept):
    """A checkpoint with fewer heads is a checkpoint like others."""
    prune(model, tiny_tokenizer, heads)
    narrow_width(model, observed(model, tiny_tokenizer, TEXTS, 32), width)
    assert (model.config.hidden_size, model.config.kept_heads) == (width, kept)
    model.save_pretrained(tmp_path / "both")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "both").eval()
    torch.testing.assert_close(logits(loaded, tiny_tokenizer), logits(model, tiny_tokenizer))


def test_more_than_there_are(model, tiny_tokenizer):
    with pytest.raises(StudentError, match=r"student.heads = 9, but the model's layers have 8"):
        prune(model, tiny_tokenizer, 9)


def test_a_head_on_the_first_token(first_token, tiny_tokenizer):
    with pytest.raises(StudentError, match=r'heads = 2: .* set student.pooling = "mean" too'):
        prune(first_token, tiny_tokenizer, 2)


def test_another_family(tiny_tokenizer):
    config = DistilBertConfig(vocab_size=60, dim=32, n_layers=1, n_heads=2, hidden_dim=64)
    model = DistilBertForSequenceClassification(config)
    with pytest.raises(StudentError, match=r'the student is a DistilBert.*student.heads = "all"'):
        prune(model, tiny_tokenizer, 1)


def test_it_teaches_in_its_turn(model, tiny_tokenizer, tmp_path):
    prune(model, tiny_tokenizer, 5)
    tokens = tokenise(TEXTS[:3], tiny_tokenizer, 32, tmp_path / "tokens")
    score(model, tokens, tmp_path, lambda line: None, Wanted(relations=2))
    stored = SoftTargets.read(tmp_path).relations
    assert stored[np.array([1])][0].shape[1] == 3 * 5 * 4


@pytest.mark.parametrize(("relation_heads", "fits"), [(5, True), (8, False)])
def test_what_it_can_teach_is_known_beforehand(
    model, tiny_tokenizer, tmp_path, tiny_recipe, relation_heads, fits
):
    prune(model, tiny_tokenizer, 5)
    model.save_pretrained(tmp_path / "few")
    tiny_tokenizer.save_pretrained(tmp_path / "few")
    chosen, _ = settings.load(
        str(tiny_recipe), tmp_path,
        (f"teacher.checkpoint={tmp_path / 'few'}", "distill.relations=1",
         f"distill.relation_heads={relation_heads}"),
    )  # fmt: skip
    refused = pytest.raises(DistillError, match="heads = 8 does not divide a width of 20")
    with nullcontext() if fits else refused:
        preflight(chosen)


@pytest.mark.whole
def test_the_whole_chain(tiny_recipe, tiny_cache, tmp_path, caplog):
    """It learns the tiny task, and INT8 has its attention in one piece."""
    changes = (
        'student.pooling="mean"', "student.heads=1", "distill.epochs=40",
        "distill.hidden=1", "distill.relations=1", "distill.relation_heads=2",
        "distill.learning_rate=2e-2", 'quantize.compare="none"',
    )  # fmt: skip
    chosen, _ = settings.load(str(tiny_recipe), tmp_path, changes)
    kit = Build(chosen, Runner(lambda line: None, tiny_cache)).folder("kit")
    assert not [record for record in caplog.records if "hidden size" in record.getMessage()]
    bundle = Classifier(kit / "student-int8", threads=1)
    given = [answer.label for answer in bundle.predict([f"please {word} my" for word in LABELS])]
    assert given == list(LABELS)
    facts = read_facts((kit / "student-int8" / "model.onnx").read_bytes())
    assert "com.microsoft:QAttention" in facts.operators
