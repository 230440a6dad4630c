"""Named INT8 recipes: an fp32 ONNX file in, an INT8 one out."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from optimize.bundle.folder import MODEL_NAME, TOKENIZER_NAME, read_manifest
from optimize.bundle.manifest import MANIFEST_NAME, write_json
from optimize.models.folder import derived
from optimize.settings.recipe import QuantizationRecipe
from optimize.workspace import Workspace


class QuantizeError(RuntimeError):
    """A quantization that did not quantize; the message says what was found."""


def build_int8(result: Path, run: Workspace, *, recipe: QuantizationRecipe, model: Path) -> None:
    """The stage: an fp32 ONNX model in INT8, not calibrated yet.

    Args:
        result: folder to fill.
        run: is told nothing.
        recipe: its name.
        model: folder of the fp32 model.

    Raises:
        QuantizeError: nothing was quantized.
    """
    quantize(recipe, model / MODEL_NAME, result / MODEL_NAME)
    shutil.copy(model / TOKENIZER_NAME, result)
    own = {"quantize": {"recipe": recipe}}
    manifest = derived(result, read_manifest(model), own, quantization=recipe)
    write_json(manifest, result / MANIFEST_NAME)


def quantize(recipe: QuantizationRecipe, source: Path, target: Path) -> None:
    """Write the INT8 model.

    Args:
        recipe: its name.
        source: the fp32 file; fused for ``ort-dynamic``, as exported for ``optimum-dynamic``.
        target: the file to write.

    Raises:
        QuantizeError: the result has no integer matrix product.
    """
    ir_version = onnx.load(str(source), load_external_data=False).ir_version
    # "Please consider to run pre-processing" is the quantizer's advice on every model.
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        RECIPES[recipe](source, target)
    finally:
        root.setLevel(level)
    model = onnx.load(str(target))
    if not any(
        "Integer" in node.op_type or node.op_type == "QAttention" for node in model.graph.node
    ):
        raise QuantizeError(f"{recipe} left no integer matrix product in {source}")
    model.ir_version = ir_version  # the quantizers write their own
    onnx.save(model, str(target))


def _ort_dynamic(source: Path, target: Path) -> None:
    """Per-channel signed weights, on ONNX Runtime's own quantizer (quantization.md).

    ``MatMulConstBOnly`` leaves QKᵀ and A·V in fp32, where two dynamic inputs cost more than they
    gain. Signed weights are what the VNNI kernels take.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=["MatMul", "Attention", "Gather"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options={
            "MatMulConstBOnly": True,
            "DefaultTensorType": onnx.TensorProto.FLOAT,
        },
    )


def _optimum_dynamic(source: Path, target: Path) -> None:
    """Per-tensor through optimum's ``ORTQuantizer``: the reference project's recipe."""
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    with TemporaryDirectory() as work:
        folder = Path(work, "model")
        folder.mkdir()
        (folder / MODEL_NAME).write_bytes(source.read_bytes())
        quantizer = ORTQuantizer.from_pretrained(folder, file_name=MODEL_NAME)
        config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False)
        quantizer.quantize(save_dir=Path(work, "out"), quantization_config=config, file_suffix="")
        target.write_bytes(Path(work, "out", MODEL_NAME).read_bytes())


RECIPES: dict[QuantizationRecipe, Callable[[Path, Path], None]] = {
    "ort-dynamic": _ort_dynamic,
    "optimum-dynamic": _optimum_dynamic,
}
