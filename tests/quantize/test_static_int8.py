"""INT8 with ranges that are fixed beforehand."""

from dataclasses import replace

import numpy as np
import onnx
import pytest

from optimize import Classifier
from optimize.bundle.onnx_header import read_facts
from optimize.data.splits import Split, TrainingData
from optimize.judge.kit import read_kit
from optimize.quantize.static_int8 import build_static_int8
from optimize.workspace import Workspace

pytestmark = pytest.mark.torch


@pytest.fixture
def data(tiny_kit):
    kit = read_kit(tiny_kit)
    examples = kit.examples("validation")
    split = Split(examples.texts, examples.labels)
    return TrainingData(kit.manifest.labels, split, split)


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_it_answers_as_fp32_does_and_alike_in_batches(tiny_kit, tmp_path, data, method, capsys):
    told = []
    run = Workspace(tmp_path, told.append)
    result = tmp_path / "int8"
    result.mkdir()
    model = tiny_kit / "teacher-onnx"
    # Several batches, of different lengths.
    longer = tuple("please " * (row % 7) + text for row, text in enumerate(data.train.texts))
    read = replace(data, train=replace(data.train, texts=longer))
    build_static_int8(result, run, method=method, texts=20, data=read, model=model)
    assert told == [f"ranges of activations on 20 training texts, by {method}"]
    assert capsys.readouterr().out == ""
    plain, int8 = Classifier(model), Classifier(result)
    assert int8.manifest.quantization == "ort-static"
    texts = data.validation.texts
    agree = int8.logits(texts).argmax(axis=1) == plain.logits(texts).argmax(axis=1)
    assert agree.mean() > 0.9
    # No scale is of the batch.
    alone, together = int8.logits(texts, batch_size=1), int8.logits(texts, batch_size=8)
    assert np.abs(alone - together).max() < 0.05
    facts = read_facts((result / "model.onnx").read_bytes())
    assert {"QuantizeLinear", "DequantizeLinear"} <= facts.operators
    left = onnx.load(str(result / "model.onnx")).graph
    floats = {each.name for each in left.initializer if len(each.dims) == 2 and each.data_type == 1}
    products = [node for node in left.node if node.op_type in ("MatMul", "Gemm")]
    assert not [node.name for node in products if floats.intersection(node.input)]
    assert (result / "model.onnx").stat().st_size < (model / "model.onnx").stat().st_size
