"""The reference project's way: export and INT8 through optimum, to be compared with.

Needs the extra ``optimum``.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from optimize.bundle.folder import MODEL_NAME, read_manifest
from optimize.bundle.manifest import MANIFEST_NAME, write_json
from optimize.data.splits import TrainingData
from optimize.models.checkpoint import load_classifier
from optimize.models.folder import copy_loading_files, derived
from optimize.quantize.export import versions
from optimize.quantize.int8 import write_int8
from optimize.quantize.parity import check_parity
from optimize.settings.quantization import ExportSettings
from optimize.workspace import Workspace

# optimum knows the inputs of a model by its type.
KNOWN_AS = {"mean-pooled-bert": "bert"}


def build_reference_onnx(
    result: Path, run: Workspace, *, settings: ExportSettings, data: TrainingData, model: Path
) -> None:
    """The stage: a PyTorch model as ONNX by optimum, checked against it on the validation texts.

    Args:
        result: folder to fill.
        run: is told how far the two are apart.
        settings: of the export; nothing is fused, which optimum's quantizer could not quantize.
        data: its validation texts are tried.
        model: folder of the PyTorch model.

    Raises:
        ExportError: the two do not answer alike.
    """
    from optimum.exporters.onnx import export
    from optimum.exporters.tasks import TasksManager
    from optimum.utils import logging

    # It advises a newer opset; ours is pinned to the oldest runtime that shall load the bundle.
    logging.set_verbosity_error()
    loaded = load_classifier(str(model))
    kind = loaded.config.model_type
    known = TasksManager.get_exporter_config_constructor(
        "onnx",
        model_type=KNOWN_AS.get(kind, kind),
        task="text-classification",
        library_name="transformers",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that the exporter will go
        target = result / MODEL_NAME
        export(loaded.eval(), known(loaded.config), target, opset=settings.opset)
    graph = onnx.load(str(target))
    graph.ir_version = settings.ir_version
    onnx.save(graph, str(target))
    copy_loading_files(model, result)
    opset, ir_version = versions(target)
    manifest = derived(
        result,
        read_manifest(model),
        {"export": {**settings.model_dump(), "exporter": "optimum"}},
        format="onnx",
        opset=opset,
        ir_version=ir_version,
    )
    texts = data.validation.texts
    worst = check_parity(loaded, result, manifest, texts, settings.parity_tolerance)
    run.tell(f"ONNX equals PyTorch within {worst:.1e}")
    write_json(manifest, result / MANIFEST_NAME)


def build_reference_int8(result: Path, run: Workspace, *, model: Path) -> None:
    """The stage: an fp32 ONNX model in INT8 by ``optimum-dynamic``, not calibrated yet.

    Args:
        result: folder to fill.
        run: is told nothing.
        model: folder of the fp32 model, as optimum exported it.

    Raises:
        QuantizeError: nothing was quantized.
    """
    write_int8("optimum-dynamic", optimum_dynamic, model, result, {})


def optimum_dynamic(source: Path, target: Path) -> None:
    """Per-tensor INT8 through optimum's ``ORTQuantizer``.

    Args:
        source: the fp32 file, as exported.
        target: the file to write.
    """
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
