"""What a search checks of an INT8 model."""

import numpy as np
import onnx
import pytest
from msgspec.structs import replace

from optimize.bundle.folder import MODEL_NAME, read_manifest
from optimize.bundle.manifest import OutOfScope
from optimize.bundle.onnx_header import read_facts
from optimize.bundle.session import oldest_onnxruntime
from optimize.data.splits import Split
from optimize.judge.kit import read_kit
from optimize.pipeline.shape_checks import _given, checked
from optimize.problems import MULTI_LABEL
from optimize.quantize.int8 import build_int8
from optimize.workspace import Workspace

pytestmark = pytest.mark.torch


@pytest.fixture
def validation(tiny_kit):
    examples = read_kit(tiny_kit).examples("validation")
    return Split(examples.texts, examples.labels)


def test_the_shipped_model_multiplies_all_its_weights_in_integers(tiny_kit, validation):
    found = checked(tiny_kit / "student-int8", tiny_kit / "student-onnx", validation)
    assert found.floating == 0
    assert found.integer > 2
    assert sum(found.bytes_by_operator.values()) > 1000
    assert 0 < found.logit_gap < 1


def test_a_model_is_as_itself(tiny_kit, validation):
    found = checked(tiny_kit / "student-onnx", tiny_kit / "student-onnx", validation)
    assert (found.integer, found.agreement, found.stays_in_batches) == (0, 1.0, 1.0)
    assert found.floating > 2
    assert found.logit_gap < 1e-4


def test_a_node_left_in_fp32_is_seen(tiny_kit, validation, tmp_path):
    fp32 = tiny_kit / "student-onnx"
    nodes = onnx.load(str(fp32 / MODEL_NAME)).graph.node
    attention = next(node.name for node in nodes if node.op_type == "Attention")
    run = Workspace(tmp_path, lambda line: None)
    build_int8(tmp_path, run, exclude=(attention,), embeddings="int8", model=fp32)
    assert checked(tmp_path, fp32, validation).floating == 1


@pytest.mark.parametrize(
    ("opset", "ir", "first"),
    [(17, 8, (1, 18)), (21, 10, (1, 18)), (22, 8, (1, 21)), (17, 11, (1, 23)), (99, 8, None)],
)
def test_the_oldest_runtime_is_the_newer_of_what_opset_and_format_need(tiny_kit, opset, ir, first):
    model = onnx.load(str(tiny_kit / "student-onnx" / MODEL_NAME))
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", opset))
    model.ir_version = ir
    assert oldest_onnxruntime(read_facts(model.SerializeToString())) == first


def test_answers_that_hang_on_their_batch_are_counted(tiny_kit, validation, monkeypatch):
    from optimize.pipeline import shape_checks

    class Fickle:
        def __init__(self, folder):
            self.manifest = replace(read_manifest(folder), out_of_scope=None)

        def logits(self, texts, *, batch_size):
            rows = np.zeros((len(texts), 3), dtype=np.float32)
            rows[np.arange(len(texts)), int(batch_size > 1)] = 1
            return rows

    monkeypatch.setattr(shape_checks, "Classifier", Fickle)
    monkeypatch.setattr(shape_checks, "Guarded", Fickle)
    found = checked(tiny_kit / "student-int8", tiny_kit / "student-onnx", validation)
    assert (found.stays_in_batches, found.agreement, found.logit_gap) == (0.0, 0.0, 1.0)


def test_answers_are_what_a_text_is_given(tiny_kit):
    """By bias or thresholds, not by the largest logit alone."""
    plain = replace(read_manifest(tiny_kit / "student-int8"), out_of_scope=None, temperature=1.0)
    logits = np.array([[1.0, 0.5, -1.0]], dtype=np.float32)
    assert _given(logits, plain) == [(0,)]
    rule = OutOfScope(label=plain.labels[1], bias=1.0)
    assert _given(logits, replace(plain, out_of_scope=rule)) == [(1,)]
    several = replace(plain, problem_type=MULTI_LABEL, thresholds=(0.5, 0.6, 0.5))
    assert _given(logits, several) == [(0, 1)]
    assert _given(logits - 0.3, several) == [(0,)]
