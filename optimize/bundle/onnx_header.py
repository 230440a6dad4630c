"""What an ONNX file asks for, read off its bytes without the package onnx and without running it.

Only the protobuf wire format is walked (protobuf.dev, "Encoding"), by the shapes of onnx.proto.
onnxruntime reads the same bytes with libprotobuf, which is lenient: it drops the high bits of a
tag, skips a known field of another wire type, and lets the last of two values win. Whatever it
would read in another way than this walk is refused, so that nothing can hide from here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
# Graphs inside of attributes inside of graphs: more than this is no model but an attack.
DEEPEST = 16
# Fields of one file; some seconds of walking, and a hundred times BERT-large's.
MOST_FIELDS = 2_000_000
LONGEST_VARINT = 10  # bytes
LARGEST_TAG = 2**32
# Domains whose operators come with onnxruntime itself.
OWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc")
# What a tensor kept outside the model names, where it names no file that can be told.
ANY_FILE = "another file"


class Shape(NamedTuple):
    """One field of a message of onnx.proto.

    Attributes:
        name: as onnx.proto names it.
        wires: wire types that libprotobuf reads it from.
        many: it may be there more than once.
        child: the message that it holds, where that one is walked.
    """

    name: str
    wires: tuple[int, ...]
    many: bool = False
    child: str = ""


def _number(name: str) -> Shape:
    return Shape(name, (VARINT,))


def _text(name: str, *, many: bool = False) -> Shape:
    return Shape(name, (BYTES,), many)


def _message(name: str, child: str = "", *, many: bool = False) -> Shape:
    return Shape(name, (BYTES,), many, child)


def _numbers(name: str, wire: int = VARINT) -> Shape:
    """A repeated number: each in a field of its own, or packed into one."""
    return Shape(name, (wire, BYTES), many=True)


# onnx.proto of onnx 1.19, by message and field number.
SHAPES: dict[str, dict[int, Shape]] = {
    "model": {
        1: _number("ir_version"),
        2: _text("producer_name"),
        3: _text("producer_version"),
        4: _text("domain"),
        5: _number("model_version"),
        6: _text("doc_string"),
        7: _message("graph", "graph"),
        8: _message("opset_import", "opset", many=True),
        14: _message("metadata_props", many=True),
        20: _message("training_info", "training", many=True),
        25: _message("functions", "function", many=True),
        26: _message("configuration", many=True),
    },
    "opset": {1: _text("domain"), 2: _number("version")},
    "training": {
        1: _message("initialization", "graph"),
        2: _message("algorithm", "graph"),
        3: _message("initialization_binding", many=True),
        4: _message("update_binding", many=True),
    },
    "graph": {
        1: _message("node", "node", many=True),
        2: _text("name"),
        5: _message("initializer", "tensor", many=True),
        10: _text("doc_string"),
        11: _message("input", many=True),
        12: _message("output", many=True),
        13: _message("value_info", many=True),
        14: _message("quantization_annotation", many=True),
        15: _message("sparse_initializer", "sparse", many=True),
        16: _message("metadata_props", many=True),
    },
    "function": {
        1: _text("name"),
        4: _text("input", many=True),
        5: _text("output", many=True),
        6: _text("attribute", many=True),
        7: _message("node", "node", many=True),
        8: _text("doc_string"),
        9: _message("opset_import", many=True),
        10: _text("domain"),
        11: _message("attribute_proto", "attribute", many=True),
        12: _message("value_info", many=True),
        13: _text("overload"),
        14: _message("metadata_props", many=True),
    },
    "node": {
        1: _text("input", many=True),
        2: _text("output", many=True),
        3: _text("name"),
        4: _text("op_type"),
        5: _message("attribute", "attribute", many=True),
        6: _text("doc_string"),
        7: _text("domain"),
        8: _text("overload"),
        9: _message("metadata_props", many=True),
        10: _message("device_configurations", many=True),
    },
    "attribute": {
        1: _text("name"),
        2: Shape("f", (FIXED32,)),
        3: _number("i"),
        4: _text("s"),
        5: _message("t", "tensor"),
        6: _message("g", "graph"),
        7: _numbers("floats", FIXED32),
        8: _numbers("ints"),
        9: _text("strings", many=True),
        10: _message("tensors", "tensor", many=True),
        11: _message("graphs", "graph", many=True),
        13: _text("doc_string"),
        14: _message("tp"),
        15: _message("type_protos", many=True),
        20: _number("type"),
        21: _text("ref_attr_name"),
        22: _message("sparse_tensor", "sparse"),
        23: _message("sparse_tensors", "sparse", many=True),
    },
    "sparse": {
        1: _message("values", "tensor"),
        2: _message("indices", "tensor"),
        3: _numbers("dims"),
    },
    "tensor": {
        1: _numbers("dims"),
        2: _number("data_type"),
        3: _message("segment"),
        4: _numbers("float_data", FIXED32),
        5: _numbers("int32_data"),
        6: _text("string_data", many=True),
        7: _numbers("int64_data"),
        8: _text("name"),
        9: _text("raw_data"),
        10: _numbers("double_data", FIXED64),
        11: _numbers("uint64_data"),
        12: _text("doc_string"),
        13: _message("external_data", "entry", many=True),
        14: _number("data_location"),
        16: _message("metadata_props", many=True),
    },
    "entry": {1: _text("key"), 2: _text("value")},
}


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
        initializers: bytes of each stored tensor, by its name as it is written.
        readers: operator that reads a value, by the value's name; the first of several.
    """

    ir_version: int = 0
    opsets: dict[str, int] = field(default_factory=dict)
    operators: set[str] = field(default_factory=set)
    external: set[str] = field(default_factory=set)
    initializers: dict[bytes, int] = field(default_factory=dict)
    readers: dict[bytes, str] = field(default_factory=dict)

    @property
    def bytes_by_operator(self) -> dict[str, int]:
        """Bytes of the stored tensors by the operator that reads them, the most first."""
        found: Counter[str] = Counter()
        for name, size in self.initializers.items():
            found[self.readers.get(name, "unread")] += size
        return dict(found.most_common())

    @property
    def custom_operators(self) -> list[str]:
        """Operators that need a library beside onnxruntime."""
        return sorted(name for name in self.operators if name.rpartition(":")[0] not in OWN_DOMAINS)


def read_facts(content: bytes) -> OnnxFacts:
    """Walk a model.

    Raises:
        OnnxFileError: bytes that are no model, or that libprotobuf would read in another way: a
            field that runs past its end, over-long numbers and tags, a field of a wrong wire type
            or that onnx.proto does not have, one value given twice; graphs nested deeper or more
            fields than in any real model; no graph at all.
    """
    walk = _Walk()
    found = walk.message(memoryview(content), "model", 0)
    if "graph" not in found or not walk.facts.ir_version:
        raise OnnxFileError(
            f"{'a' if 'graph' in found else 'no'} graph and IR version "
            f"{walk.facts.ir_version}: not an ONNX model"
        )
    if walk.outside and not walk.facts.external:
        walk.facts.external.add(ANY_FILE)
    return walk.facts


class _Walk:
    """One pass over a file; the facts gather in it."""

    def __init__(self) -> None:
        self.facts = OnnxFacts()
        self.outside = False
        self._left = MOST_FIELDS

    def message(self, message: memoryview, kind: str, depth: int) -> dict[str, int | memoryview]:
        """The last value of each field, the messages inside walked."""
        if depth > DEEPEST:
            raise OnnxFileError(f"graphs are nested more than {DEEPEST} deep")
        shapes = SHAPES[kind]
        found: dict[str, int | memoryview] = {}
        inputs: list[bytes] = []
        for number, wire, value in _fields(message):
            self._left -= 1
            if self._left < 0:
                raise OnnxFileError(f"it has more than {MOST_FIELDS:,} fields")
            shape = _shape_of(shapes, kind, number, wire)
            if not shape.many and shape.name in found:
                raise OnnxFileError(f"{kind}.{shape.name} is there more than once")
            found[shape.name] = value
            if isinstance(value, memoryview) and (kind, shape.name) == ("node", "input"):
                inputs.append(bytes(value))
            if shape.child and isinstance(value, memoryview):
                inner = self.message(value, shape.child, depth + (shape.child == "graph"))
                if shape.name == "initializer":
                    name = inner.get("name", b"")
                    self.facts.initializers[bytes(name) if name else b""] = len(value)
        self._note(kind, found)
        if kind == "node":
            operator = _string(found, "op_type")
            for each in inputs:
                self.facts.readers.setdefault(each, operator)
        return found

    def _note(self, kind: str, found: dict[str, int | memoryview]) -> None:
        if kind == "model":
            self.facts.ir_version = _int(found, "ir_version")
        elif kind == "opset":
            domain = _string(found, "domain")
            self.facts.opsets["" if domain == "ai.onnx" else domain] = _int(found, "version")
        elif kind == "node":
            operator, domain = _string(found, "op_type"), _string(found, "domain")
            self.facts.operators.add(f"{domain}:{operator}" if domain else operator)
        elif kind == "entry" and _string(found, "key") == "location":
            self.facts.external.add(_string(found, "value"))
        elif kind == "tensor" and ("external_data" in found or _int(found, "data_location")):
            self.outside = True


def _shape_of(shapes: dict[int, Shape], kind: str, number: int, wire: int) -> Shape:
    shape = shapes.get(number)
    if shape is None:
        raise OnnxFileError(f"{kind} has a field {number}, which onnx.proto does not")
    if wire not in shape.wires:
        raise OnnxFileError(
            f"{kind}.{shape.name} has wire type {wire}; onnx.proto gives it "
            f"{' or '.join(map(str, shape.wires))}"
        )
    return shape


def _int(found: dict[str, int | memoryview], name: str) -> int:
    value = found.get(name, 0)
    return value if isinstance(value, int) else 0


def _string(found: dict[str, int | memoryview], name: str) -> str:
    value = found.get(name, b"")
    if isinstance(value, int):
        return ""
    try:
        return bytes(value).decode("utf-8")
    except UnicodeDecodeError:
        raise OnnxFileError(f"{name} is {bytes(value)[:40]!r}, which is no UTF-8") from None


def _fields(message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """(field number, wire type, value): a number, or the bytes of anything else."""
    place, end = 0, len(message)
    while place < end:
        tag, place = _varint(message, place)
        number, wire = tag >> 3, tag & 7
        if tag >= LARGEST_TAG or not number:
            raise OnnxFileError(f"tag {tag} is no field's: not an ONNX model")
        if wire == VARINT:
            value, place = _varint(message, place)
            yield number, wire, value
            continue
        if wire == BYTES:
            size, place = _varint(message, place)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise OnnxFileError(f"unknown wire type {wire}: not an ONNX model")
        if place + size > end:
            raise OnnxFileError(f"a field of {size} bytes runs past its end: cut short")
        yield number, wire, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value, start = 0, place
    while True:
        if place >= len(message) or place - start >= LONGEST_VARINT:
            raise OnnxFileError("a number runs past its end: cut short, or not an ONNX model")
        byte = message[place]
        value |= (byte & 0x7F) << 7 * (place - start)
        place += 1
        if byte & 0x80:
            continue
        if value >> 64 or (not byte and place - start > 1):
            raise OnnxFileError("a number is written longer than it is, or above 64 bits")
        return value, place
