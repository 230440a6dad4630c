"""What each node costs in INT8, and which to leave in fp32."""

import json

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import rel_entr, softmax

from optimize import settings
from optimize.bundle.folder import MODEL_NAME
from optimize.cli import main
from optimize.data.splits import Split
from optimize.judge.kit import read_kit
from optimize.quantize import sensitivity as module
from optimize.quantize.int8 import QuantizeError, build_int8
from optimize.quantize.sensitivity import (
    answers_changed,
    divergence,
    excluded_until,
    quantizable,
    sensitivity,
)

pytestmark = pytest.mark.torch
LOGITS = hnp.arrays(np.float32, (4, 3), elements=st.floats(-20, 20, width=32))


@given(LOGITS, LOGITS)
def test_divergence_is_kl(plain, other):
    ours, theirs = softmax(other.astype(float), axis=1), softmax(plain.astype(float), axis=1)
    expected = rel_entr(theirs, ours).sum(axis=1).mean()
    assert divergence(plain, other) == pytest.approx(expected, rel=1e-4, abs=1e-7)
    assert divergence(plain, plain) == pytest.approx(0, abs=1e-9)


@given(LOGITS)
def test_where_a_text_may_have_several_labels_a_shift_is_no_sameness(plain):
    """A softmax does not see it, sigmoids do."""
    assert divergence(plain, plain + 1) == pytest.approx(0, abs=1e-6)
    assert divergence(plain, plain + 1, several=True) > 0
    assert divergence(plain, plain, several=True) == pytest.approx(0, abs=1e-9)


def test_answers_that_change_are_counted():
    plain = np.array([[3.0, 1.0], [100.0, 99.999], [0.5, 2.0]], dtype=np.float32)
    assert answers_changed(plain, plain) == 0
    other = np.array([[1.0, 3.0], [99.999, 100.0], [0.5, 2.1]], dtype=np.float32)
    assert answers_changed(plain, other) == 2
    assert answers_changed(plain, plain - 1, several=True) == 2  # 1.0 is at 0 then, 0.5 below


def test_a_node_that_turns_an_answer_is_told(student, split, monkeypatch):
    """What the quantizer makes of one node is the negative of the model: every answer turns."""
    real = module._Asked.logits
    calls = []

    def turned(self, content):
        calls.append(content)
        return real(self, content) * (1 if len(calls) == 1 else -1)

    monkeypatch.setattr(module._Asked, "logits", turned)
    found = sensitivity(student, split.texts, lambda line: None)
    assert {each.changed for each in found} == {len(split.texts)}


@pytest.fixture
def student(tiny_kit):
    return tiny_kit / "student-onnx"


@pytest.fixture
def split(tiny_kit):
    examples = read_kit(tiny_kit).examples("validation")
    return Split(examples.texts, examples.labels)


def test_each_node_that_is_quantized_has_its_cost(student, split):
    told = []
    found = sensitivity(student, split.texts, told.append)
    assert {(each.name, each.operator) for each in found} == set(quantizable(student / MODEL_NAME))
    assert {"MatMul", "Gemm", "Attention", "Gather"} == {each.operator for each in found}
    costs = [each.divergence for each in found]
    assert costs == sorted(costs, reverse=True)
    assert max(costs) > 0
    assert all(each.changed <= len(split.texts) for each in found)
    assert len(told) == len(found)


def test_nodes_are_left_out_until_no_more_is_lost(student, split, monkeypatch):
    found = sensitivity(student, split.texts[:4], lambda line: None)
    assert excluded_until(student, found, split, 100.0, lambda line: None) == []
    scores = iter([1.0, 0.8, 0.9, 0.999, 1.0])
    monkeypatch.setattr(module, "_score", lambda logits, split: next(scores))
    names = excluded_until(student, found, split, 0.2, lambda line: None)
    assert names == [each.name for each in found[:2]]


def _plain_matrices(folder):
    """Matrices in fp32 that a product reads."""
    graph = onnx.load(str(folder / MODEL_NAME)).graph
    floats = {
        each.name for each in graph.initializer if len(each.dims) == 2 and each.data_type == 1
    }
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    return sum(bool(floats.intersection(node.input)) for node in products)


def test_a_table_of_four_bits_is_never_excluded(student, split):
    found = sensitivity(student, split.texts, lambda line: None)
    assert any(cost.operator == "Gather" for cost in found)
    tried = []
    # No drop is small enough: all that may be excluded is.
    names = excluded_until(student, found, split, -1000.0, tried.append, "int4")
    assert set(names) == {cost.name for cost in found if cost.operator != "Gather"}


def test_an_excluded_node_stays_in_fp32(student, tmp_path):
    from optimize.bundle.onnx_header import read_facts
    from optimize.workspace import Workspace

    run = Workspace(tmp_path, lambda line: None)
    names = dict(quantizable(student / MODEL_NAME))
    attention = next(name for name, kind in names.items() if kind == "Attention")
    for exclude, there in (
        ((), "com.microsoft:QAttention"),
        ((attention,), "com.microsoft:Attention"),
    ):
        result = tmp_path / str(len(exclude))
        result.mkdir()
        build_int8(result, run, exclude=exclude, embeddings="int8", model=student)
        assert there in read_facts((result / MODEL_NAME).read_bytes()).operators
    # The quantizer gives a Gemm another name before it looks at ours.
    (head,) = [name for name, kind in names.items() if kind == "Gemm" and "classifier" in name]
    kept = tmp_path / "head"
    kept.mkdir()
    build_int8(kept, run, exclude=(head,), embeddings="int8", model=student)
    assert _plain_matrices(kept) > _plain_matrices(tmp_path / "0")
    with pytest.raises(QuantizeError, match="no node 'absent'"):
        build_int8(tmp_path, run, exclude=("absent",), embeddings="int8", model=student)


def test_the_command(tiny_recipe, tiny_kit, tiny_cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("optimize.pipeline.runner.default_root", lambda: tiny_cache)
    arguments = ["sensitivity", "--recipe", str(tiny_recipe), "--until", "100"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["exclude"] == []
    assert found["nodes"]
    assert settings.parse({"quantize": {"exclude": found["exclude"]}}, "test")
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    assert main([*arguments, "-q", "--plot", str(tmp_path / "s.svg")]) == 0
    assert "| node | operator |" in capsys.readouterr().out
    assert (tmp_path / "s.svg").stat().st_size > 1000
