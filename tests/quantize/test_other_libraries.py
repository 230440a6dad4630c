"""A bundle is loaded by the libraries that people know, and they answer the same."""

import json

import numpy as np
import pytest

from optimize.bundle.classifier import Classifier
from optimize.bundle.session import session_options
from optimize.models.folder import copy_loading_files
from optimize.pipeline.graph import can_quantize

TEXTS = ["please track my order now", "cancel the thing today", "where is my money back", "hello"]


@pytest.mark.parametrize("variant", ["student-onnx", "student-int8"])
def test_config_and_tokenizer_are_there(tiny_kit, variant):
    folder = tiny_kit / variant
    config = json.loads((folder / "config.json").read_text())
    labels = Classifier(folder).labels
    assert [config["id2label"][str(n)] for n in range(len(labels))] == list(labels)
    assert {"config.json", "tokenizer.json", "tokenizer_config.json"} <= Classifier(
        folder
    ).manifest.files.keys()


def test_a_type_of_our_own_is_told_as_what_others_know(tmp_path):
    source, target = tmp_path / "torch", tmp_path / "onnx"
    source.mkdir()
    target.mkdir()
    own = {"model_type": "mean-pooled-bert", "architectures": ["MeanPooledBert"], "hidden_size": 8}
    (source / "config.json").write_text(json.dumps(own))
    copy_loading_files(source, target)
    told = json.loads((target / "config.json").read_text())
    assert told == own | {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}


@pytest.mark.skipif(not can_quantize("optimum-dynamic"), reason="optimum allows no transformers 5")
def test_optimum_and_a_pipeline_answer_the_same(tiny_kit):
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer, pipeline

    folder = tiny_kit / "student-int8"
    ours = Classifier(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # Without VNNI a plain session's products saturate; the card says which option keeps them.
    guarded = session_options(0)
    model = ORTModelForSequenceClassification.from_pretrained(folder, session_options=guarded)
    for text in TEXTS:
        theirs = model(**tokenizer(text, return_tensors="pt")).logits.numpy()
        np.testing.assert_allclose(theirs, ours.logits([text]), atol=1e-5)
    answers = pipeline("text-classification", model=model, tokenizer=tokenizer)(TEXTS, batch_size=1)
    assert [answer["label"] for answer in answers] == [
        ours.labels[int(ours.logits([text]).argmax())] for text in TEXTS
    ]
