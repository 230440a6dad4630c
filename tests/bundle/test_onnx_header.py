"""What a model asks for is read off its bytes, whatever bytes those are."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_bytes import field, model, node, tensor, varint

from optimize.bundle import onnx_header
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
        initializers={
            b"deep": len(tensor("deep", "elsewhere.bin")),
            b"weight": len(tensor("weight")),
        },
    )
    assert facts.bytes_by_operator == {"unread": sum(facts.initializers.values())}
    assert facts.custom_operators == ["my.domain:Mine"]


@pytest.mark.torch
def test_agrees_with_the_package_onnx(tiny_kit):
    import onnx

    paths = sorted(tiny_kit.glob("*/model.onnx"))
    assert len(paths) >= 3
    for path in paths:
        whole = onnx.load(str(path))
        facts = read_facts(path.read_bytes())
        stored = {tensor.name.encode() for tensor in whole.graph.initializer}
        assert facts.initializers.keys() == stored
        assert 0 < sum(facts.bytes_by_operator.values()) < path.stat().st_size
        assert facts.bytes_by_operator.keys() <= {node.op_type for node in whole.graph.node}
        assert facts.ir_version == whole.ir_version
        assert facts.opsets == {entry.domain: entry.version for entry in whole.opset_import}
        named = {(n.domain + ":" if n.domain else "") + n.op_type for n in whole.graph.node}
        assert facts.operators == named
        assert not facts.external
        assert not facts.custom_operators


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no graph and IR version 0"),
        (model(node("MatMul"), ("", 17))[:-3], "runs past its end"),
        (b"\xff" * 30, "a number runs past its end"),
        (varint(7 << 3 | 4), "unknown wire type 4"),
        (field(1, 8) + field(7, 3), "model.graph has wire type 0; onnx.proto gives it 2"),
        (model(b"") + field(7, b""), "model.graph is there more than once"),
        (model(field(99, b"")), "graph has a field 99"),
        (varint(1 << 35 | 7 << 3 | 2) + varint(0), "is no field's"),
        (varint(2) + varint(0), "tag 2 is no field's"),
        (b"\xba\x00" + varint(0), "written longer than it is"),
        (varint(1 << 3) + b"\xff" * 9 + b"\x02", "above 64 bits"),
        (model(field(1, field(4, "MatMul") + field(4, "Mine"))), "node.op_type is there more than"),
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


def external(name="w"):
    return tensor(name, "../../secret") + field(14, 1)


def sparse(number, values):
    return field(number, field(1, values))


HIDING_PLACES = {
    "initializer": field(5, external()),
    "sparse initializer": sparse(15, external()),
    "indices of a sparse initializer": field(15, field(2, external())),
    "attribute": node("Constant", "", field(5, external())),
    "list of an attribute": node("Constant", "", field(10, external())),
    "sparse attribute": node("Constant", "", sparse(22, external())),
    "list of sparse attributes": node("Constant", "", sparse(23, external())),
    "graph of an attribute": node("If", "", field(6, field(5, external()))),
    "graphs of an attribute": node("If", "", field(11, field(5, external()))),
}


@pytest.mark.parametrize("place", HIDING_PLACES)
def test_external_data_is_found_wherever_a_tensor_can_be(place):
    assert read_facts(model(HIDING_PLACES[place], ("", 17))).external == {"../../secret"}


@pytest.mark.parametrize(
    "outside",
    [
        field(25, field(7, field(4, "Constant") + field(5, field(5, external())))),
        field(25, field(11, field(5, external()))),
        field(20, field(1, field(5, external()))),
    ],
    ids=["node of a function", "default of a function", "training"],
)
def test_external_data_is_found_outside_of_the_graph(outside):
    content = model(node("MatMul"), ("", 17)) + outside
    assert read_facts(content).external == {"../../secret"}


def test_a_tensor_kept_elsewhere_without_a_name_is_told():
    content = model(field(5, field(8, "w") + field(14, 1)), ("", 17))
    assert read_facts(content).external == {"another file"}


def test_more_fields_than_any_model_has_are_refused(monkeypatch):
    monkeypatch.setattr(onnx_header, "MOST_FIELDS", 1000)
    with pytest.raises(OnnxFileError, match="more than 1,000 fields"):
        read_facts(model(node("Relu") * 600, ("", 17)))


def high_bits(number, wire, bits):
    """A field's tag with bits that libprotobuf drops."""
    return varint(bits << 32 | number << 3 | wire)


@pytest.mark.torch
@given(
    place=st.sampled_from(sorted(HIDING_PLACES)),
    changes=st.lists(
        st.tuples(st.integers(0, 10**4), st.integers(0, 2), st.binary(min_size=1, max_size=6)),
        max_size=4,
    ),
)
def test_nothing_that_onnx_reads_from_elsewhere_is_hidden_from_here(place, changes):
    """Bytes are put in, taken out and changed: what onnx still reads must be seen or refused."""
    content = bytearray(model(HIDING_PLACES[place], ("", 17)))
    for at, how, other in changes:
        start = at % len(content)
        content[start : start + (0, len(other), 1)[how]] = other
    with suppress(OnnxFileError):
        facts = read_facts(bytes(content))
        assert facts.external or not reads_from_elsewhere(bytes(content))


@pytest.mark.torch
@pytest.mark.parametrize("bits", [1, 2, 7])
def test_a_tag_with_bits_that_libprotobuf_drops_hides_nothing(bits):
    entry = field(1, "location") + field(2, "../../secret")
    hidden = high_bits(13, 2, bits) + varint(len(entry)) + entry
    content = model(field(5, field(8, "w") + hidden + field(14, 1)), ("", 17))
    with pytest.raises(OnnxFileError, match="is no field's"):
        read_facts(content)


def reads_from_elsewhere(content):
    """Whether the package onnx, which parses with protobuf, finds a tensor kept outside."""
    import onnx
    from google.protobuf.message import DecodeError, Message

    def tensors(message):
        if isinstance(message, onnx.TensorProto):
            yield message
        for described, value in message.ListFields():
            if described.message_type is not None:
                for inner in [value] if isinstance(value, Message) else value:
                    yield from tensors(inner)

    try:
        whole = onnx.ModelProto.FromString(content)
    except DecodeError:
        return False
    return any(t.data_location == onnx.TensorProto.EXTERNAL for t in tensors(whole))


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
