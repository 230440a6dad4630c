"""Our own INT8 recipe, and what every recipe shares: an fp32 ONNX file in, an INT8 one out."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from optimize.bundle.folder import MODEL_NAME, read_manifest
from optimize.bundle.manifest import MANIFEST_NAME, write_json
from optimize.models.folder import copy_loading_files, derived
from optimize.quantize.embeddings import with_four_bit_embeddings
from optimize.quantize.quiet import errors_alone
from optimize.settings.quantization import EmbeddingBits, QuantizationRecipe
from optimize.workspace import Workspace

# Takes the fp32 file, and the one to write.
Quantizer = Callable[[Path, Path], None]


class QuantizeError(RuntimeError):
    """A quantization that did not quantize; the message says what was found."""


# Types of the nodes that are quantized, once each Gemm is a MatMul.
QUANTIZED = ("MatMul", "Attention", "Gather")


def build_int8(
    result: Path,
    run: Workspace,
    *,
    exclude: tuple[str, ...],
    embeddings: EmbeddingBits,
    model: Path,
) -> None:
    """The stage: an fp32 ONNX model in INT8 by ``ort-dynamic``, not calibrated yet.

    Args:
        result: folder to fill.
        run: is told nothing.
        exclude: names of nodes that stay in fp32.
        embeddings: ``int8``, or ``int4`` for a codebook of four bits a value.
        model: folder of the fp32 model, fused.

    Raises:
        QuantizeError: nothing was quantized, or a node that is to stay is not there.
    """
    check_nodes(exclude, model)
    made = four_bit_ort_dynamic if embeddings == "int4" else ort_dynamic
    own = {"exclude": list(exclude), "embeddings": embeddings}
    write_int8("ort-dynamic", partial(made, exclude=exclude), model, result, own)


def check_nodes(names: Sequence[str], model: Path) -> None:
    """Refuse names of nodes that a model has not.

    Args:
        names: those of ``quantize.exclude``.
        model: folder of the fp32 model.

    Raises:
        QuantizeError: the first that is not there.
    """
    if not names:
        return
    known = {node.name for node in onnx.load(str(model / MODEL_NAME)).graph.node}
    if absent := sorted(set(names) - known):
        close = difflib.get_close_matches(absent[0], known, n=3, cutoff=0.0)
        raise QuantizeError(
            f"quantize.exclude: the model has no node {absent[0]!r}; closest: {', '.join(close)}"
        )


def write_int8(
    recipe: QuantizationRecipe,
    quantizer: Quantizer,
    model: Path,
    result: Path,
    own: Mapping[str, object],
) -> None:
    """Fill a folder with the INT8 form of a model.

    Args:
        recipe: name of what the quantizer does, for the manifest.
        quantizer: writes the INT8 file.
        model: folder of the fp32 model.
        result: folder to fill.
        own: settings of the quantizer, for the manifest.

    Raises:
        QuantizeError: nothing was quantized.
    """
    quantize(quantizer, model / MODEL_NAME, result / MODEL_NAME)
    copy_loading_files(model, result)
    said = {"quantize": {"recipe": recipe, **own}}
    manifest = derived(result, read_manifest(model), said, quantization=recipe)
    write_json(manifest, result / MANIFEST_NAME)


def quantize(quantizer: Quantizer, source: Path, target: Path, *, integer: bool = True) -> None:
    """Write the INT8 model.

    Args:
        quantizer: takes the fp32 file and the one to write.
        source: the fp32 file.
        target: the file to write.
        integer: whether to insist on integer matrix products.

    Raises:
        QuantizeError: the result has no integer matrix product.
    """
    ir_version = onnx.load(str(source), load_external_data=False).ir_version
    # "Please consider to run pre-processing" is the quantizer's advice on every model.
    with errors_alone(), TemporaryDirectory() as work:
        # The quantizer writes beside its source, which may be a stage in the cache.
        copy = Path(work, source.name)
        shutil.copyfile(source, copy)
        quantizer(copy, target)
    model = onnx.load(str(target))
    if integer and not any(
        "Integer" in node.op_type or node.op_type in ("QAttention", "QuantizeLinear")
        for node in model.graph.node
    ):
        raise QuantizeError(f"no integer matrix product was left in {source}")
    model.ir_version = ir_version  # the quantizers write their own
    onnx.save(model, str(target))


def ort_dynamic(
    source: Path,
    target: Path,
    *,
    exclude: Sequence[str] = (),
    nodes: Sequence[str] = (),
) -> None:
    """Per-channel signed weights, on ONNX Runtime's own quantizer (quantization.md).

    ``MatMulConstBOnly`` leaves QKᵀ and A·V in fp32, where two dynamic inputs cost more than they
    gain. Signed weights are what the VNNI kernels take.

    Args:
        source: the fp32 file.
        target: the file to write.
        exclude: names of nodes that stay in fp32.
        nodes: names of the only nodes that are quantized; all when empty.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # The quantizer makes a MatMul of each Gemm, under this name, before it looks at names.
    exclude, nodes = (
        [name for each in names for name in (each, f"{each}_MatMul")] for names in (exclude, nodes)
    )
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=list(QUANTIZED),
        nodes_to_quantize=nodes,
        nodes_to_exclude=exclude,
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options={
            "MatMulConstBOnly": True,
            "DefaultTensorType": onnx.TensorProto.FLOAT,
        },
    )


def four_bit_ort_dynamic(source: Path, target: Path, *, exclude: Sequence[str] = ()) -> None:
    """The same, with the table of tokens in four bits.

    Args:
        source: the fp32 file.
        target: the file to write.
        exclude: names of nodes that stay in fp32.

    Raises:
        QuantizeError: the model has no such table.
    """
    model = onnx.load(str(source))
    try:
        made = with_four_bit_embeddings(model, exclude)
    except ValueError as error:
        raise QuantizeError(str(error)) from error
    smaller = source.with_name(f"four-bits-{source.name}")
    onnx.save(model, str(smaller))
    ort_dynamic(smaller, target, exclude=[*exclude, *made])
