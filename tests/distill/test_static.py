"""A student without attention: made of an encoder, trained, exported, quantized and served."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification as Classifiers
from transformers import AutoTokenizer

from conftest import save_tiny_backbone
from optimize import Classifier, settings
from optimize.bundle.onnx_header import read_facts
from optimize.distill.static import static_student
from optimize.models.static_words import StaticWords
from optimize.pipeline.runner import Build, Runner
from optimize.settings.load import SettingsError

TEXTS = ["please track my order", "refund", "cancel the thing now"]


@pytest.fixture
def pair(tmp_path):
    folder = save_tiny_backbone(tmp_path / "backbone")
    model = Classifiers.from_pretrained(folder, num_labels=3)
    return model, AutoTokenizer.from_pretrained(folder)


def logits(model, tokenizer, texts):
    with torch.inference_mode():
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        return model(batch["input_ids"], batch["attention_mask"]).logits


def test_it_begins_with_what_the_encoder_says(pair):
    model, tokenizer = pair
    made = static_student(model, tokenizer, TEXTS * 20, 8, 0.1).eval()
    assert made.embeddings.weight.shape == (len(tokenizer), 8)
    assert made.embeddings.weight.norm(dim=1).mean().item() == pytest.approx(1.0, abs=1e-4)
    often, never = (tokenizer.convert_tokens_to_ids(word) for word in ("refund", "money"))
    assert made.importance.weight[often] < made.importance.weight[never]


def test_padding_and_order_change_nothing(pair):
    model, tokenizer = pair
    made = static_student(model, tokenizer, TEXTS, 8, 0.1).eval()
    alone = logits(made, tokenizer, TEXTS[1:2])
    together = logits(made, tokenizer, TEXTS)[1:2]
    torch.testing.assert_close(alone, together)
    turned = logits(made, tokenizer, ["order my track please"])
    torch.testing.assert_close(turned, logits(made, tokenizer, TEXTS[:1]))


def test_it_is_saved_and_loaded(pair, tmp_path):
    made = static_student(*pair, TEXTS, 8, 0.1).eval()
    made.save_pretrained(tmp_path / "saved")
    loaded = Classifiers.from_pretrained(tmp_path / "saved").eval()
    assert isinstance(loaded, StaticWords)
    torch.testing.assert_close(logits(loaded, pair[1], TEXTS), logits(made, pair[1], TEXTS))


def test_the_whole_chain(tiny_recipe, tiny_cache, tmp_path):
    """It learns the tiny task, and its bundle answers as it does in PyTorch."""
    changes = (
        'student.shape="static"', 'student.layers="all"', "student.width=16",
        "distill.epochs=40", "distill.learning_rate=2e-2", 'quantize.compare="none"',
    )  # fmt: skip
    chosen, _ = settings.load(str(tiny_recipe), tmp_path, changes)
    kit = Build(chosen, Runner(lambda line: None, tiny_cache)).folder("kit")
    bundle = Classifier(kit / "student-int8", threads=1)
    operators = read_facts((kit / "student-int8" / "model.onnx").read_bytes()).operators
    assert not any("Attention" in name or "Softmax" in name for name in operators)
    fp32 = Classifier(kit / "student-onnx", threads=1)
    texts = [f"please {word} my order now" for word in ("cancel", "refund", "track", "stop")]
    given = [answer.label for answer in bundle.predict(texts, batch_size=1)]
    assert given == [answer.label for answer in fp32.predict(texts)]
    assert given[:3] == ["cancel", "refund", "track"]
    assert np.isfinite(bundle.logits(texts)).all()


def test_losses_on_layers_are_refused(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('[student]\nshape = "static"\n[distill]\nhidden = 1.0\n')
    with pytest.raises(SettingsError, match="has no layers"):
        settings.load(str(recipe), tmp_path)


@pytest.mark.parametrize("cut", [{"feed_forward": 8}, {"heads": 2}])
def test_cuts_of_layers_are_refused(cut):
    told = f'no layers to cut: set student.{next(iter(cut))} = "all"'
    with pytest.raises(SettingsError, match=told):
        settings.parse({"student": {"shape": "static", **cut}}, "t")
