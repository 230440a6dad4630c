"""INT8 with ranges that are fixed beforehand."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from optimize import Classifier, settings
from optimize.bundle.folder import read_manifest
from optimize.bundle.onnx_header import read_facts
from optimize.data.splits import Split, TrainingData
from optimize.judge.kit import read_kit
from optimize.pipeline.graph import graph
from optimize.pipeline.runner import load_splits
from optimize.quantize.int8 import QuantizeError
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
    build_static_int8(result, run, method=method, texts=20, exclude=(), data=read, model=model)
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


def test_a_node_that_is_excluded_stays_in_fp32(tiny_kit, tmp_path, data):
    model = tiny_kit / "teacher-onnx"
    graph = onnx.load(str(model / "model.onnx")).graph
    head = [node.name for node in graph.node if node.op_type in ("Gemm", "MatMul")][-1]
    options = {"method": "minmax", "texts": 8, "data": data, "model": model}
    found = {}
    for name, exclude in (("all", ()), ("some", (head,))):
        (tmp_path / name).mkdir()
        run = Workspace(tmp_path, lambda line: None)
        build_static_int8(tmp_path / name, run, exclude=exclude, **options)
        made = onnx.load(str(tmp_path / name / "model.onnx")).graph
        found[name] = sum(node.op_type == "QuantizeLinear" for node in made.node)
        said = read_manifest(tmp_path / name).recipe["quantize"]
        assert said == {
            "recipe": "ort-static", "calibration": "minmax", "calibration_texts": 8,
            "exclude": list(exclude),
        }  # fmt: skip
    assert found["some"] < found["all"]
    with pytest.raises(QuantizeError, match="no node 'none of it'; closest: "):
        build_static_int8(tmp_path, Workspace(tmp_path, print), exclude=("none of it",), **options)


def test_names_of_nodes_are_of_the_shipped_recipe(tiny_recipe):
    asked = {"recipe": "ort-static", "exclude": ["a"], "compare": "ort-dynamic"}
    more = [f"quantize.{name}={json.dumps(value)}" for name, value in asked.items()]
    chosen, _ = settings.load(str(tiny_recipe), None, more)
    stages = graph(chosen, load_splits(chosen))
    inner = {stage.name: stage for each in stages.values() for stage in each.walk()}
    assert inner["int8-ort-static"].values["exclude"] == ("a",)
    assert inner["int8-ort-dynamic"].values["exclude"] == ()


def test_a_recipe_that_leaves_out_no_node_says_so():
    table = {"quantize": {"recipe": "optimum-dynamic", "exclude": ["a"]}}
    with pytest.raises(settings.SettingsError, match="optimum's leaves out none"):
        settings.parse(table, "t")
