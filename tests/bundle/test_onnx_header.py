"""What a model asks for is read off its bytes, whatever bytes those are."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_bytes import field, model, node, tensor, varint

from optimize.bundle.onnx_header import OnnxFacts, OnnxFileError, read_facts


def test_a_model_by_hand():
    inner = node("Gemm") + field(5, tensor("deep", "elsewhere.bin"))
    graph = (
        node("MatMul")
        + node("Attention", "com.microsoft")
        + node("If", "", field(1, "then_branch") + field(6, inner))
        + node("Mine", "my.domain", field(5, tensor("constant", "../../secret")))
        + field(5, tensor("weight"))
    )
    facts = read_facts(model(graph, ("", 17), ("ai.onnx.ml", 3)))
    assert facts == OnnxFacts(
        ir_version=8,
        opsets={"": 17, "ai.onnx.ml": 3},
        operators={"MatMul", "com.microsoft:Attention", "If", "Gemm", "my.domain:Mine"},
        external={"elsewhere.bin", "../../secret"},
    )
    assert facts.custom_operators == ["my.domain:Mine"]


@pytest.mark.torch
def test_agrees_with_the_package_onnx(tiny_kit):
    import onnx

    paths = sorted(tiny_kit.glob("*/model.onnx"))
    assert len(paths) >= 3
    for path in paths:
        whole = onnx.load(str(path))
        facts = read_facts(path.read_bytes())
        assert facts.ir_version == whole.ir_version
        assert facts.opsets == {entry.domain: entry.version for entry in whole.opset_import}
        named = {(n.domain + ":" if n.domain else "") + n.op_type for n in whole.graph.node}
        assert facts.operators == named
        assert not facts.external
        assert not facts.custom_operators


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 graphs and IR version 0"),
        (model(node("MatMul"), ("", 17))[:-3], "runs past its end"),
        (b"\xff" * 30, "a number runs past its end"),
        (varint(7 << 3 | 4), "unknown wire type 4"),
        (field(1, 8) + field(7, 3), "a number stands where a message belongs"),
        (model(b"") + field(7, b""), "2 graphs"),
    ],
)
def test_bytes_that_are_no_model_are_refused(content, words):
    with pytest.raises(OnnxFileError, match=words):
        read_facts(content)


def test_graphs_nested_without_end_are_refused():
    graph = node("Leaf")
    for _ in range(40):
        graph = node("If", "", field(6, graph))
    with pytest.raises(OnnxFileError, match="nested more than"):
        read_facts(model(graph, ("", 17)))


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(content):
    with suppress(OnnxFileError):
        read_facts(content)


@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_model_with_any_byte_changed_is_read_or_refused(place, value):
    content = bytearray(model(node("MatMul") + field(5, tensor("w")), ("", 17)))
    content[place % len(content)] = value
    with suppress(OnnxFileError):
        read_facts(bytes(content))
