"""INT8 with activation scales fixed beforehand: quantize and dequantize nodes, calibrated on texts.

Dynamic INT8 measures each activation's range as it comes, which costs time and makes an answer hang
on its batch. Here the ranges are of calibration texts. Whether that is faster depends on the CPU
and the model; on small batches it seldom is, since ONNX Runtime fuses no attention around such
nodes. So it is a candidate to be measured, and not the default.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader

from optimize.bundle.encoder import TextEncoder
from optimize.bundle.folder import read_manifest
from optimize.bundle.texts import evenly
from optimize.data.splits import TrainingData
from optimize.quantize.int8 import check_nodes, write_int8
from optimize.settings.quantization import CalibrationMethod
from optimize.workspace import Workspace

BATCH = 8


def build_static_int8(
    result: Path,
    run: Workspace,
    *,
    method: CalibrationMethod,
    texts: int,
    exclude: tuple[str, ...],
    data: TrainingData,
    model: Path,
) -> None:
    """The stage: an fp32 ONNX model in INT8 by ``ort-static``, not calibrated on labels yet.

    Args:
        result: folder to fill.
        run: is told how many texts were read.
        method: how the range of an activation is taken from what it was on the texts.
        texts: training texts that are read, evenly spaced.
        exclude: names of nodes that stay in fp32.
        data: has them.
        model: folder of the fp32 model, not fused.

    Raises:
        QuantizeError: nothing was quantized, or a node that is to stay is not there.
    """
    check_nodes(exclude, model)
    chosen = evenly(data.train.texts, texts)
    run.tell(f"ranges of activations on {len(chosen)} training texts, by {method}")

    def quantizer(source: Path, target: Path) -> None:
        ort_static(source, target, _Reader(model, source, chosen), method, exclude)

    own = {"calibration": method, "calibration_texts": texts, "exclude": list(exclude)}
    write_int8("ort-static", quantizer, model, result, own)


def ort_static(
    source: Path,
    target: Path,
    reader: CalibrationDataReader,
    method: CalibrationMethod,
    exclude: Sequence[str] = (),
) -> None:
    """Per-channel signed weights and unsigned activations, around matrix products and embeddings.

    What LayerNormalization, GELU and the residual sums read stays in fp32: their ranges have
    outliers that eight bits do not hold (Bondarenko, Nagel and Blankevoort 2021, "Understanding and
    Overcoming the Challenges of Efficient Transformer Quantization").

    Args:
        source: the fp32 file.
        target: the file to write.
        reader: gives the inputs that activations are measured on.
        method: ``minmax``, ``percentile`` or ``entropy``.
        exclude: names of nodes that stay in fp32.
    """
    from onnxruntime.quantization import CalibrationMethod as Methods
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    methods = {
        "minmax": Methods.MinMax,
        "percentile": Methods.Percentile,
        "entropy": Methods.Entropy,
    }
    # The calibrators print how far they are.
    with redirect_stdout(io.StringIO()):
        quantize_static(
            source,
            target,
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            nodes_to_exclude=list(exclude),
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            calibrate_method=methods[method],
            extra_options={
                "MatMulConstBOnly": True,
                "DefaultTensorType": onnx.TensorProto.FLOAT,
                # One batch at a time: histograms are made of stacked ones, and batches of texts
                # are of different lengths.
                "CalibStridedMinMax": 1,
            },
        )


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Batches of tokens, as the quantizer asks for them."""

    def __init__(self, folder: Path, model: Path, texts: Sequence[str]) -> None:
        graph = onnx.load(str(model), load_external_data=False).graph
        self._wanted = {node.name for node in graph.input}
        encoder = TextEncoder(folder, read_manifest(folder))
        self._batches = [batch for _, batch in encoder.batches(list(texts), BATCH)]
        self._left = range(len(self._batches))

    def __len__(self) -> int:
        return len(self._batches)

    def set_range(self, start_index: int, end_index: int) -> None:
        """The batches that are to come."""
        self._left = range(start_index, min(end_index, len(self)))

    def get_next(self) -> dict[str, NDArray[np.int64]] | None:
        """One batch, or nothing when there are no more."""
        if not self._left:
            return None
        batch, self._left = self._batches[self._left[0]], self._left[1:]
        return {name: array for name, array in batch.items() if name in self._wanted}
