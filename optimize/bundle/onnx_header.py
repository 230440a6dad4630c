"""What an ONNX file asks for, read off its bytes without the package onnx and without running it.

Only the protobuf wire format is walked (protobuf.dev, "Encoding"); tensors are skipped over. Field
numbers are those of onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

# ModelProto
IR_VERSION, GRAPH, OPSET_IMPORT, FUNCTIONS = 1, 7, 8, 25
# GraphProto and FunctionProto
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_SPARSE, FUNCTION_NODE = 1, 5, 15, 7
# NodeProto and AttributeProto
NODE_OP_TYPE, NODE_ATTRIBUTE, NODE_DOMAIN = 4, 5, 7
ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 5, 6, 10, 11
# TensorProto and StringStringEntryProto
TENSOR_NAME, TENSOR_EXTERNAL = 8, 13
ENTRY_KEY, ENTRY_VALUE = 1, 2
# OperatorSetIdProto
OPSET_DOMAIN, OPSET_VERSION = 1, 2

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# Graphs inside of attributes inside of graphs: more than this is no model but an attack.
DEEPEST = 16
# Domains whose operators come with onnxruntime itself.
OWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc")


class OnnxFileError(ValueError):
    """Bytes that are not an ONNX model."""


@dataclass
class OnnxFacts:
    """What a model asks for.

    Attributes:
        ir_version: version of the file format.
        opsets: operator set by domain; the default domain is ``""``.
        operators: ``DOMAIN:TYPE`` of every node, in the default domain ``TYPE``.
        external: files that hold a tensor's data, as the model names them.
    """

    ir_version: int = 0
    opsets: dict[str, int] = field(default_factory=dict)
    operators: set[str] = field(default_factory=set)
    external: set[str] = field(default_factory=set)

    @property
    def custom_operators(self) -> list[str]:
        """Operators that need a library beside onnxruntime."""
        return sorted(name for name in self.operators if name.rpartition(":")[0] not in OWN_DOMAINS)


def read_facts(content: bytes) -> OnnxFacts:
    """Walk a model.

    Raises:
        OnnxFileError: a field that runs past its end, an unknown wire type, graphs nested deeper
            than any real model's, or no graph at all.
    """
    facts = OnnxFacts()
    graphs = 0
    for number, value in _fields(memoryview(content)):
        if number == IR_VERSION and isinstance(value, int):
            facts.ir_version = value
        elif number == OPSET_IMPORT:
            domain, version = _opset(_message(value))
            facts.opsets[domain] = version
        elif number == GRAPH:
            graphs += 1
            _walk_graph(_message(value), facts, GRAPH_NODE, 0)
        elif number == FUNCTIONS:
            _walk_graph(_message(value), facts, FUNCTION_NODE, 0)
    if graphs != 1 or not facts.ir_version:
        raise OnnxFileError(f"{graphs} graphs and IR version {facts.ir_version}: not an ONNX model")
    return facts


def _walk_graph(graph: memoryview, facts: OnnxFacts, node_field: int, depth: int) -> None:
    if depth > DEEPEST:
        raise OnnxFileError(f"graphs are nested more than {DEEPEST} deep")
    for number, value in _fields(graph):
        if number == node_field:
            _walk_node(_message(value), facts, depth)
        elif number == GRAPH_INITIALIZER and node_field == GRAPH_NODE:
            _walk_tensor(_message(value), facts)
        elif number == GRAPH_SPARSE and node_field == GRAPH_NODE:
            for _, part in _fields(_message(value)):
                if isinstance(part, memoryview):
                    _walk_tensor(part, facts)


def _walk_node(node: memoryview, facts: OnnxFacts, depth: int) -> None:
    kind = domain = ""
    for number, value in _fields(node):
        if number == NODE_OP_TYPE:
            kind = _text(value)
        elif number == NODE_DOMAIN:
            domain = _text(value)
        elif number == NODE_ATTRIBUTE:
            for part, inner in _fields(_message(value)):
                if part in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
                    _walk_graph(_message(inner), facts, GRAPH_NODE, depth + 1)
                elif part in (ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS):
                    _walk_tensor(_message(inner), facts)
    facts.operators.add(f"{domain}:{kind}" if domain else kind)


def _walk_tensor(tensor: memoryview, facts: OnnxFacts) -> None:
    for number, value in _fields(tensor):
        if number == TENSOR_EXTERNAL:
            entry = {part: _text(inner) for part, inner in _fields(_message(value))}
            if entry.get(ENTRY_KEY) == "location":
                facts.external.add(entry.get(ENTRY_VALUE, ""))


def _opset(message: memoryview) -> tuple[str, int]:
    domain, version = "", 0
    for number, value in _fields(message):
        if number == OPSET_DOMAIN:
            domain = _text(value)
        elif number == OPSET_VERSION and isinstance(value, int):
            version = value
    return ("" if domain == "ai.onnx" else domain), version


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise OnnxFileError("a number stands where a message belongs")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)).decode("utf-8", errors="replace")


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value): a number, or the bytes of a string or message."""
    place, end = 0, len(message)
    while place < end:
        tag, place = _varint(message, place)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            value, place = _varint(message, place)
            yield number, value
            continue
        if wire == BYTES:
            size, place = _varint(message, place)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise OnnxFileError(f"unknown wire type {wire}: not an ONNX model")
        if place + size > end:
            raise OnnxFileError(f"a field of {size} bytes runs past its end: cut short")
        yield number, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(message) or shift > 63:
            raise OnnxFileError("a number runs past its end: cut short, or not an ONNX model")
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, place
        shift += 7
