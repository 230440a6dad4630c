"""What a shape is in INT8: where its bytes are, what it multiplies, and how it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from optimize.bundle.classifier import Classifier
from optimize.bundle.folder import MODEL_NAME
from optimize.bundle.onnx_header import read_facts
from optimize.bundle.session import oldest_onnxruntime
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
        validation: texts; the first :data:`TEXTS` are asked.
    """
    content = (int8 / MODEL_NAME).read_bytes()
    facts = read_facts(content)
    oldest = oldest_onnxruntime(facts)
    integer, floating = _products(content)
    texts = list(validation.texts[:TEXTS])
    ours = Classifier(int8)
    alone, together = (ours.logits(texts, batch_size=size) for size in (1, BATCH))
    plain = Classifier(fp32).logits(texts, batch_size=BATCH)
    guarded = Guarded(int8).logits(texts, batch_size=1)
    return Checks(
        bytes_by_operator=facts.bytes_by_operator,
        integer=integer,
        floating=floating,
        agreement=float((alone.argmax(axis=1) == plain.argmax(axis=1)).mean()),
        logit_gap=float(np.abs(alone - plain).max()),
        stays_in_batches=float((alone.argmax(axis=1) == together.argmax(axis=1)).mean()),
        overflowing=overflowing_pairs(int8 / MODEL_NAME),
        guarded_gap=float(np.abs(alone - guarded).max()),
        onnxruntime="unknown" if oldest is None else ".".join(map(str, oldest)),
    )


def _products(content: bytes) -> tuple[int, int]:
    """Nodes that multiply in integers, and those that multiply stored weights in fp32."""
    graph = onnx.load_from_string(content).graph
    plain = {t.name for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT}
    stored = {t.name for t in graph.initializer}
    # Between quantize and dequantize nodes onnxruntime multiplies in integers.
    dequantized = {
        name
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in stored
        for name in node.output
    }
    integer = floating = 0
    for node in graph.node:
        product = node.op_type in PRODUCTS
        floating += product and bool(plain.intersection(node.input[:2]))
        by_type = node.op_type.startswith(INTEGER_PRODUCTS)
        integer += by_type or (product and bool(dequantized.intersection(node.input[:2])))
    return integer, floating
