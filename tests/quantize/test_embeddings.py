"""Token embeddings in four bits."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import numpy_helper

from optimize import settings as recipes
from optimize.bundle.classifier import Classifier
from optimize.bundle.folder import MODEL_NAME
from optimize.quantize.embeddings import PREFIX, coded, with_four_bit_embeddings
from optimize.quantize.int8 import QuantizeError, build_int8
from optimize.workspace import Workspace

pytestmark = pytest.mark.torch
TABLES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 20), st.integers(1, 6).map(lambda half: 2 * half)),
    elements=st.floats(-1000, 1000, width=32),
)


def decoded(table):
    codes, codebook, scales = coded(table)
    assert (codes.dtype, codes.shape) == (np.uint8, (len(table), table.shape[1] // 2))
    return codebook[codes].reshape(table.shape) * scales


@given(TABLES)
@settings(max_examples=30)
def test_what_is_coded_is_finite_and_no_row_is_worse_than_nothing(table):
    found = decoded(table)
    assert np.isfinite(found).all()
    lost = ((found - table) ** 2).sum(axis=1)
    whole = (table.astype(float) ** 2).sum(axis=1)
    assert (lost <= whole * (1 + 1e-5) + 1e-6).all()


def test_a_tenth_is_lost_of_normal_rows_whatever_their_scale():
    """A codebook of one value at a time loses 0.105 (Max 1960, table I: 0.0095 of the power)."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(2000, 64)).astype(np.float32)
    rows *= generator.lognormal(sigma=2, size=(2000, 1)).astype(np.float32)
    lost = np.linalg.norm(decoded(rows) - rows, axis=1) / np.linalg.norm(rows, axis=1)
    assert lost.mean() < 0.105
    assert lost.max() < 0.2


@pytest.fixture
def student(tiny_kit):
    return tiny_kit / "student-onnx"


def test_the_graph_looks_up_what_was_coded(student):
    model = onnx.load(str(student / MODEL_NAME))
    gather = next(n for n in model.graph.node if n.op_type == "Gather" and "input_ids" in n.input)
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    table = kept[gather.input[0]]
    names = with_four_bit_embeddings(model)
    assert all(name.startswith(PREFIX) for name in names)
    assert gather.input[0] not in {tensor.name for tensor in model.graph.initializer}
    onnx.checker.check_model(model)
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(gather.output[0]))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    ids = np.arange(len(table))[:12].reshape(2, 6)
    feeds = {node.name: np.ones_like(ids) for node in session.get_inputs()}
    (found,) = session.run([gather.output[0]], feeds | {"input_ids": ids})
    np.testing.assert_allclose(found, decoded(table)[ids], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("embeddings", ["int8", "int4"])
def test_a_bundle_of_it_answers_and_is_smaller(student, tmp_path, embeddings):
    sizes = {}
    for bits in ("int8", embeddings):
        folder = tmp_path / bits
        folder.mkdir(exist_ok=True)
        run = Workspace(tmp_path, lambda line: None)
        build_int8(folder, run, exclude=(), embeddings=bits, model=student)
        model = onnx.load(str(folder / MODEL_NAME))
        sizes[bits] = sum(t.ByteSize() for t in model.graph.initializer if "embed" in t.name)
    rows = Classifier(tmp_path / embeddings).predict_proba(["cancel it now", "a refund"])
    assert np.allclose(rows.sum(axis=1), 1)
    before = Classifier(student).predict_proba(["cancel it now", "a refund"])
    assert (rows.argmax(axis=1) == before.argmax(axis=1)).all()
    assert (sizes[embeddings] < sizes["int8"]) == (embeddings == "int4")


def test_what_cannot_be_coded_is_refused_with_the_remedy(student, tmp_path):
    with pytest.raises(ValueError, match="even width, not 3; set"):
        coded(np.ones((4, 3), dtype=np.float32))
    model = onnx.load(str(student / MODEL_NAME))
    for node in model.graph.node:
        if node.op_type == "Gather" and "input_ids" in node.input:
            node.op_type = "GatherElements"
    without = tmp_path / "without"
    without.mkdir()
    onnx.save(model, str(without / MODEL_NAME))
    with pytest.raises(QuantizeError, match="no node of this model looks up a table"):
        build_int8(
            tmp_path, Workspace(tmp_path, print), exclude=(), embeddings="int4", model=without
        )
    with pytest.raises(recipes.SettingsError, match='is for recipe = "ort-dynamic"'):
        recipes.load("sample", None, ['quantize.embeddings="int4"', "quantize.recipe=ort-static"])


def test_what_is_to_stay_in_fp32_stays(student, tmp_path):
    model = onnx.load(str(student / MODEL_NAME))
    gather = next(n for n in model.graph.node if n.op_type == "Gather" and "input_ids" in n.input)
    with pytest.raises(QuantizeError, match=r"but for those in quantize\.exclude"):
        build_int8(
            tmp_path, Workspace(tmp_path, print), exclude=(gather.name,), embeddings="int4",
            model=student,
        )  # fmt: skip
