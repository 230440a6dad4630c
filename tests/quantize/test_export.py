"""ONNX export, its parity check, and the INT8 recipes."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers

from optimize.bundle.folder import read_manifest
from optimize.distill.student import make_student
from optimize.models import checkpoint
from optimize.quantize.export import export_onnx, fused_attention_nodes, input_names, versions
from optimize.quantize.int8 import QuantizeError, four_bit_ort_dynamic, ort_dynamic, quantize
from optimize.quantize.parity import ExportError, check_parity
from optimize.settings.quantization import ExportSettings
from optimize.settings.training import StudentSettings

TEXTS = [f"please track my order {n} today" for n in range(12)]
SIZES = {"vocab_size": 60, "num_labels": 3, "max_position_embeddings": 160}
WIDTHS = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
SPECIALS = ("pad", "bos", "eos", "cls", "sep")
# By family: its sizes, and whether ONNX Runtime's optimizer fuses its attention.
FAMILIES = {
    "Bert": (WIDTHS, True),
    # Its mask was another before transformers 5, and not what the fusion knows.
    "DistilBert": (
        {"dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64},
        transformers.__version__ >= "5",
    ),
    "Roberta": (WIDTHS, True),
    "XLMRoberta": (WIDTHS, True),
    "Camembert": (WIDTHS, True),
    "Electra": (WIDTHS | {"embedding_size": 32}, True),
    "MPNet": (WIDTHS, False),  # a relative bias has no fused kernel
    "Albert": (WIDTHS | {"embedding_size": 16}, False),
    "DebertaV2": (
        WIDTHS
        | {
            "relative_attention": True,
            "position_buckets": 16,
            "pos_att_type": ["p2c", "c2p"],
            "type_vocab_size": 0,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "position_biased_input": False,
        },
        False,
    ),
    "ModernBert": (
        WIDTHS | {f"{name}_token_id": number for number, name in enumerate(SPECIALS)},
        False,
    ),
}


def test_a_bert_pooled_by_the_mean_is_fused_and_equals_pytorch(tiny_backbone, tiny_kit, tmp_path):
    asked = StudentSettings(checkpoint=str(tiny_backbone), pooling="mean")
    model, _ = make_student(asked, "", ("cancel", "refund", "track"), 0)
    export_onnx(model, tmp_path / "model.onnx", ExportSettings())
    assert fused_attention_nodes(tmp_path / "model.onnx") == 2
    manifest = read_manifest(tiny_kit / "student-onnx")
    (tmp_path / "tokenizer.json").write_bytes(
        (tiny_kit / "student-onnx" / "tokenizer.json").read_bytes()
    )
    assert check_parity(model, tmp_path, manifest, TEXTS, 1e-3) < 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_exports_equals_pytorch_and_quantizes(family, tiny_kit, tmp_path):
    sizes, fused = FAMILIES[family]
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SIZES, **sizes)
    model = transformers.AutoModelForSequenceClassification.from_config(config).eval()
    path = tmp_path / "model.onnx"
    export_onnx(model, path, ExportSettings())
    assert versions(path) == (17, 8)
    assert fused_attention_nodes(path) == fused
    manifest = read_manifest(tiny_kit / "student-onnx")
    (tmp_path / "tokenizer.json").write_bytes(
        (tiny_kit / "student-onnx" / "tokenizer.json").read_bytes()
    )
    assert check_parity(model, tmp_path, manifest, TEXTS, 1e-3) < 1e-3
    quantize(ort_dynamic, path, tmp_path / "int8.onnx")
    names = {
        node.name for node in onnxruntime.InferenceSession(tmp_path / "int8.onnx").get_inputs()
    }
    assert names == set(input_names(model))
    quantize(four_bit_ort_dynamic, path, tmp_path / "int4.onnx")
    onnxruntime.InferenceSession(tmp_path / "int4.onnx")
    large = [array.tobytes() for array in initializers(path).values() if array.nbytes > 1024]
    assert len(large) == len(set(large)), "a tensor is stored twice"


def test_plain_export_fuses_nothing(tiny_kit, tmp_path):
    model = checkpoint.load_classifier(str(tiny_kit / "student-torch"))
    export_onnx(model, tmp_path / "m.onnx", ExportSettings(fuse=False, opset=16, ir_version=7))
    assert fused_attention_nodes(tmp_path / "m.onnx") == 0
    assert versions(tmp_path / "m.onnx") == (16, 7)


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (1e-2, r"logits differ by up to .* \(tolerance 1e-03, .*track"),
        (float("nan"), r"no finite number .*track.*smaller learning_rate"),
    ],
)
def test_an_export_that_differs_is_refused_with_the_worst_text(tiny_kit, size, told):
    model = checkpoint.load_classifier(str(tiny_kit / "student-torch"))
    with torch.no_grad():
        model.classifier.bias += torch.tensor([size, 0.0, 0.0])
    folder = tiny_kit / "student-onnx"
    with pytest.raises(ExportError, match=told):
        check_parity(model, folder, read_manifest(folder), TEXTS, 1e-3)


def initializers(path):
    return {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load(str(path)).graph.initializer
    }


def test_ort_dynamic_keeps_a_scale_per_channel_and_signed_weights(tiny_kit):
    weights = initializers(tiny_kit / "student-int8" / "model.onnx")
    scales = [array for name, array in weights.items() if name.endswith("_scale")]
    assert max(scale.size for scale in scales) >= 32
    matrices = [array for array in weights.values() if array.ndim == 2 and array.dtype.kind == "i"]
    assert any(array.dtype == np.int8 for array in matrices)


def test_only_products_with_weights_are_quantized(tiny_kit):
    """Products of two activations stay in fp32: QKᵀ and A·V, where attention is not fused."""
    graph = onnx.load(str(tiny_kit / "student-int8" / "model.onnx")).graph
    stored = {tensor.name for tensor in graph.initializer}
    integer = [node for node in graph.node if node.op_type == "MatMulInteger"]
    assert integer
    for node in integer:
        assert stored.intersection(node.input), node.name


def test_a_model_without_a_matrix_product_cannot_pass_for_int8(tmp_path):
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [value("x", onnx.TensorProto.FLOAT, [1])],
        [value("y", onnx.TensorProto.FLOAT, [1])],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.save(model, str(tmp_path / "m.onnx"))
    with pytest.raises(QuantizeError, match="no integer matrix product"):
        quantize(ort_dynamic, tmp_path / "m.onnx", tmp_path / "q.onnx")
