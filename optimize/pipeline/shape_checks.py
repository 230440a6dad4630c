"""What a shape is in INT8: where its bytes are, what it multiplies, and how it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from optimize.bundle.classifier import Classifier, Logits, given_labels, probabilities
from optimize.bundle.folder import MODEL_NAME
from optimize.bundle.manifest import Manifest
from optimize.bundle.onnx_header import read_facts
from optimize.bundle.session import oldest_onnxruntime
from optimize.bundle.texts import evenly
from optimize.data.splits import Split
from optimize.pipeline.saturation import Guarded, overflowing_pairs

# Validation texts that are asked.
TEXTS = 1000
BATCH = 32
PRODUCTS = ("MatMul", "Gemm", "Attention")
INTEGER_PRODUCTS = (
    "MatMulInteger",
    "DynamicQuantizeMatMul",
    "QAttention",
    "QLinearMatMul",
    "QGemm",
)


@dataclass(frozen=True)
class Checks:
    """What was found of an INT8 model.

    Attributes:
        bytes_by_operator: bytes of its stored tensors, by the operator that reads them.
        integer: nodes that multiply in integers.
        floating: nodes that multiply stored weights in fp32.
        agreement: share of validation texts that it answers as its own fp32 model does.
        logit_gap: largest difference of a logit from the fp32 model's.
        stays_in_batches: share of validation texts whose answer is the same in batches of 32.
        overflowing: share of neighbouring weights that could saturate without VNNI.
        guarded_gap: largest difference of a logit under the kernels that then are asked for.
        onnxruntime: oldest minor version that loads it, by opset and IR version.
    """

    bytes_by_operator: dict[str, int]
    integer: int
    floating: int
    agreement: float
    logit_gap: float
    stays_in_batches: float
    overflowing: float
    guarded_gap: float
    onnxruntime: str


def checked(int8: Path, fp32: Path, validation: Split) -> Checks:
    """Check an INT8 model.

    Args:
        int8: its folder.
        fp32: folder of the same student in fp32.
        validation: texts; :data:`TEXTS` of them are asked, evenly spaced.
    """
    content = (int8 / MODEL_NAME).read_bytes()
    facts = read_facts(content)
    oldest = oldest_onnxruntime(facts)
    products = _products(content)
    texts = evenly(validation.texts, TEXTS)
    ours = Classifier(int8)
    alone, together = (ours.logits(texts, batch_size=size) for size in (1, BATCH))
    reference = Classifier(fp32)
    plain = reference.logits(texts, batch_size=BATCH)
    given = [_given(found, ours.manifest) for found in (alone, together)]
    guarded = Guarded(int8).logits(texts, batch_size=1)
    return Checks(
        bytes_by_operator=facts.bytes_by_operator,
        integer=products.integer,
        floating=products.floating,
        agreement=_share_alike(given[0], _given(plain, reference.manifest)),
        logit_gap=float(np.abs(alone - plain).max()),
        stays_in_batches=_share_alike(*given),
        overflowing=overflowing_pairs(products.signed),
        guarded_gap=float(np.abs(alone - guarded).max()),
        onnxruntime="unknown" if oldest is None else ".".join(map(str, oldest)),
    )


def _given(logits: Logits, manifest: Manifest) -> list[tuple[int, ...]]:
    """What each text is given, with the bias or the thresholds that are fitted for this model."""
    likely = probabilities(logits, manifest)
    if manifest.multi_label:
        return given_labels(likely, manifest)
    return [(int(label),) for label in likely.argmax(axis=1)]


def _share_alike(first: list[tuple[int, ...]], second: list[tuple[int, ...]]) -> float:
    return float(np.mean([a == b for a, b in zip(first, second, strict=True)]))


class _Products(NamedTuple):
    """What a model multiplies.

    Attributes:
        integer: nodes that multiply in integers.
        floating: nodes that multiply stored weights in fp32.
        signed: the stored signed 8-bit matrices of the former.
    """

    integer: int
    floating: int
    signed: list[NDArray[np.int8]]


def _products(content: bytes) -> _Products:
    graph = onnx.load_from_string(content).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    plain = {name for name, each in stored.items() if each.data_type == onnx.TensorProto.FLOAT}
    # Between quantize and dequantize nodes onnxruntime multiplies in integers.
    dequantized = {
        name: stored[node.input[0]]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in stored
        for name in node.output
    }
    integer = floating = 0
    held: list[onnx.TensorProto] = []
    for node in graph.node:
        if node.op_type.startswith(INTEGER_PRODUCTS):
            integer += 1
            held += [stored[name] for name in node.input if name in stored]
        elif node.op_type in PRODUCTS:
            floating += bool(plain.intersection(node.input[:2]))
            weights = [dequantized[name] for name in node.input[:2] if name in dequantized]
            integer += bool(weights)
            held += weights
    signed = [
        numpy_helper.to_array(each)
        for each in held
        if each.data_type == onnx.TensorProto.INT8 and len(each.dims) == 2  # no zero point
    ]
    return _Products(integer, floating, signed)
