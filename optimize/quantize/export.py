"""PyTorch to ONNX by torch's own exporter: pin versions, fuse attention, prove parity."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from optimize.bundle.folder import MODEL_NAME, read_manifest
from optimize.bundle.manifest import MANIFEST_NAME, write_json
from optimize.data.splits import TrainingData
from optimize.models.checkpoint import load_classifier
from optimize.models.fit import check_exportable
from optimize.models.folder import copy_loading_files, derived
from optimize.models.mean_pooled_bert import attention_width
from optimize.quantize.parity import check_parity
from optimize.quantize.quiet import errors_alone
from optimize.quantize.token_parity import check_tokens
from optimize.settings.quantization import ExportSettings
from optimize.workspace import Workspace

# Families whose attention the transformers optimizer fuses; MPNet's relative bias does not fuse.
FUSED_AS = {
    "bert": "bert",
    "distilbert": "bert",
    "roberta": "bert",
    "xlm-roberta": "bert",
    "camembert": "bert",
    "electra": "bert",
    "mean-pooled-bert": "bert",
}
EXPORTER = "torch.onnx.export(dynamo=False)"
FUSED_ATTENTION = ("Attention", "MultiHeadAttention")


def build_onnx(
    result: Path, run: Workspace, *, settings: ExportSettings, data: TrainingData, model: Path
) -> None:
    """The stage: a PyTorch model as ONNX, checked against it on the validation texts.

    Args:
        result: folder to fill.
        run: is told how far the two are apart.
        settings: of the export.
        data: its validation texts are tried.
        model: folder of the PyTorch model.

    Raises:
        ExportError: the two do not answer alike.
    """
    loaded = load_classifier(str(model))
    export_onnx(loaded, result / MODEL_NAME, settings)
    copy_loading_files(model, result)
    opset, ir_version = versions(result / MODEL_NAME)
    manifest = derived(
        result,
        read_manifest(model),
        {"export": {**settings.model_dump(), "exporter": EXPORTER}},
        format="onnx",
        opset=opset,
        ir_version=ir_version,
    )
    texts = data.validation.texts
    check_tokens(model, result, manifest, texts)
    worst = check_parity(loaded, result, manifest, texts, settings.parity_tolerance)
    fused = fused_attention_nodes(result / MODEL_NAME)
    run.tell(f"ONNX equals PyTorch within {worst:.1e}, {fused} attention blocks fused")
    write_json(manifest, result / MANIFEST_NAME)


def export_onnx(model: PreTrainedModel, target: Path, settings: ExportSettings) -> None:
    """Write ``model`` as an ONNX file with dynamic batch and length, fused where that applies.

    Args:
        model: any encoder classifier; left as it was.
        target: the file to write.
        settings: opset and IR version, which bound the oldest onnxruntime that loads the file.
    """
    with TemporaryDirectory() as work:
        raw = _exported(model, Path(work), settings.opset)
        family = FUSED_AS.get(model.config.model_type)
        if settings.fuse and family is not None:
            graph = _fused(raw, family, model.config)
        else:
            graph = onnx.load(str(raw))
    graph.ir_version = settings.ir_version
    _import_used_domains(graph)
    onnx.checker.check_model(graph)
    onnx.save(graph, str(target))


def _exported(model: PreTrainedModel, folder: Path, opset: int) -> Path:
    """The model by torch's TorchScript exporter, with dynamic batch and length.

    Not by ``dynamo=True``: of what that writes, with torch 2.13, ONNX Runtime's optimizer fuses no
    attention. The fusion patterns know eager attention; scaled_dot_product_attention is not fused
    (onnxruntime issue 23864).
    """
    config = copy.deepcopy(model.config)
    check_exportable(str(config.name_or_path or config.model_type), config)
    eager = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    eager.load_state_dict(model.state_dict())
    names = input_names(eager)
    ids = torch.ones((2, 8), dtype=torch.long)
    example = {"input_ids": ids, "attention_mask": ids, "token_type_ids": torch.zeros_like(ids)}
    axes = {name: {0: "batch", 1: "tokens"} for name in names}
    with warnings.catch_warnings():
        # torch announces that this exporter will go, and the tracer tells of every size in Python.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _LogitsOf(eager.eval().float(), names),
            tuple(example[name] for name in names),
            str(folder / MODEL_NAME),
            dynamo=False,
            opset_version=opset,
            input_names=list(names),
            output_names=["logits"],
            dynamic_axes={**axes, "logits": {0: "batch"}},
        )
    return folder / MODEL_NAME


def input_names(model: PreTrainedModel) -> tuple[str, ...]:
    """The inputs that a model reads, in the order of :class:`optimize.bundle.encoder.TextEncoder`.

    Token types are one where ``forward`` takes them and there is more than one type to tell apart.
    """
    names = ("input_ids", "attention_mask")
    types = getattr(model.config, "type_vocab_size", 0) or 0
    takes = "token_type_ids" in inspect.signature(model.forward).parameters
    return (*names, "token_type_ids") if takes and types > 1 else names


class _LogitsOf(torch.nn.Module):
    """A classifier whose inputs are told by place and whose output is a tensor, to be traced."""

    def __init__(self, model: PreTrainedModel, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Logits of shape (batch, labels)."""
        named = dict(zip(self.names, inputs, strict=True))
        logits: torch.Tensor = self.model(**named).logits
        return logits


def _fused(raw: Path, family: str, config: Any) -> onnx.ModelProto:
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    options = FusionOptions(family)
    # Quantizing a fused embedding layer is not supported.
    options.enable_embed_layer_norm = False
    # ONNX Runtime's fused SkipLayerNormalization and BiasGelu are not vectorised on the CPU: with
    # them a 2-layer INT8 student takes 1.15 times as long at batch 1, 1.4 times at batch 32.
    options.enable_skip_layer_norm = False
    options.enable_bias_skip_layer_norm = False
    options.enable_bias_gelu = False
    heads = getattr(config, "num_attention_heads", None) or config.n_heads
    hidden = getattr(config, "hidden_size", None) or config.dim
    if kept := getattr(config, "kept_heads", None):
        heads, hidden = kept, attention_width(config)
    # It warns of queries narrower than the hidden states, and fuses them.
    with errors_alone():
        fused = optimizer.optimize_model(
            str(raw),
            model_type=family,
            num_heads=heads,
            hidden_size=hidden,
            optimization_options=options,
            opt_level=0,
        )
    graph: onnx.ModelProto = fused.model
    return graph


def _import_used_domains(graph: onnx.ModelProto) -> None:
    """Import the domains that a node uses, and no other: a runtime may not know an unused one."""
    used = {node.domain for node in graph.graph.node} | {""}
    kept = {entry.domain: entry.version for entry in graph.opset_import if entry.domain in used}
    del graph.opset_import[:]
    for domain in sorted(used):
        graph.opset_import.append(onnx.helper.make_opsetid(domain, kept.get(domain, 1)))


def fused_attention_nodes(path: Path) -> int:
    """How many attention blocks were fused."""
    graph = onnx.load(str(path), load_external_data=False).graph
    return sum(node.op_type in FUSED_ATTENTION for node in graph.node)


def versions(path: Path) -> tuple[int, int]:
    """(opset of the default domain, IR version) of an ONNX file."""
    model = onnx.load(str(path), load_external_data=False)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return opset, model.ir_version
