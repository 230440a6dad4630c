"""What an INT8 model would do without VNNI."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimize import Classifier
from optimize.bundle.folder import MODEL_NAME
from optimize.bundle.session import session_options
from optimize.judge.kit import read_kit
from optimize.pipeline.saturation import Guarded, overflowing_pairs

pytestmark = pytest.mark.torch
ENTRY = "session.x64quantprecision"


def product(path, weights):
    node = helper.make_node("MatMulInteger", ["a", "w"], ["y"])
    a = helper.make_tensor_value_info("a", TensorProto.UINT8, [1, len(weights)])
    y = helper.make_tensor_value_info("y", TensorProto.INT32, [1, weights.shape[1]])
    graph = helper.make_graph([node], "g", [a], [y], [numpy_helper.from_array(weights, "w")])
    onnx.save(helper.make_model(graph), path)
    return path


@pytest.mark.parametrize(
    ("column", "share"),
    [
        ([127, 1, 0, 0], 0.0),
        ([127, 2, 0, 0], 0.5),  # 255 · 129 = 32,895
        ([1, 127, 127, 1], 0.0),  # neighbours of two pairs are never added
        ([-127, -2, 127, 2], 1.0),
        ([127, -127, -127, 127], 0.0),
        ([127, 127, 127], 1.0),  # the last has no neighbour
    ],
)
def test_pairs_that_could_pass_sixteen_bits(tmp_path, column, share):
    weights = np.array(column, np.int8)[:, None]
    assert overflowing_pairs(product(tmp_path / "m.onnx", weights)) == share


def test_unsigned_weights_and_models_without_any(tmp_path, tiny_kit):
    assert overflowing_pairs(product(tmp_path / "m.onnx", np.full((4, 1), 255, np.uint8))) == 0
    assert overflowing_pairs(tiny_kit / "student-onnx" / MODEL_NAME) == 0


def test_guarded_kernels_are_asked_for_and_say_the_same(tiny_kit):
    assert session_options(1, guarded=True).get_session_config_entry(ENTRY) == "1"
    with pytest.raises(RuntimeError):
        session_options(1, guarded=False).get_session_config_entry(ENTRY)
    texts = list(read_kit(tiny_kit).examples("validation").texts)
    bundle = tiny_kit / "student-int8"
    ours, guarded = (each(bundle).logits(texts, batch_size=1) for each in (Classifier, Guarded))
    np.testing.assert_allclose(ours, guarded, atol=1e-4)
