"""Where the time of one answer goes: the parts are there, and what is counted is what there is."""

import onnx
import pytest
from onnx import numpy_helper

from optimize.bundle.classifier import Classifier
from optimize.bundle.folder import MODEL_NAME
from optimize.experiments.latency_floor import main, profile_of, split_of

pytestmark = pytest.mark.torch
TEXTS = ["cancel it now", "a refund"]


def test_the_command(tiny_kit, capsys):
    assert main([str(tiny_kit / "student-int8"), "--kit", str(tiny_kit), "--calls", "3"]) == 0
    told = capsys.readouterr().out
    for words in (
        "tokenizer",
        "session",
        "QAttention",
        "products in INT8",
        "nodes that do nothing",
    ):
        assert words in told


def test_products_and_their_weights_are_counted(tiny_kit):
    bundle = tiny_kit / "student-int8"
    classifier = Classifier(bundle, threads=1)
    profile = profile_of(classifier, bundle, TEXTS[:1], 1, 2)
    ((_, batch),) = classifier.encoder.batches(TEXTS[:1], 1)
    tokens = batch["input_ids"].shape[1]
    model = onnx.load(str(bundle / MODEL_NAME))
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    kinds = ("MatMul", "MatMulInteger", "Attention", "QAttention", "Gemm")
    weights = [
        stored[node.input[1]] for node in model.graph.node
        if node.op_type in kinds and stored.get(node.input[1]) is not None
    ]  # fmt: skip
    assert profile.weight_bytes == sum(array.nbytes for array in weights)
    most = tokens * sum(array.size for array in weights)
    # The pooler and the head read one token alone.
    assert most / tokens < profile.products <= most
    assert all(seconds >= 0 for seconds in profile.seconds.values())


def test_an_answer_has_three_parts(tiny_kit):
    parts = split_of(Classifier(tiny_kit / "student-int8", threads=1), TEXTS, 3)
    assert list(parts) == ["tokenizer", "session", "checks and softmax"]
    assert parts["tokenizer"] > 0
    assert parts["session"] > 0
