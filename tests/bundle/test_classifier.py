import hashlib
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from msgspec.structs import replace
from onnx_bytes import field, node, tensor
from onnx_bytes import model as hand_made

from optimize import BundleError, Classifier, Prediction
from optimize.bundle import folder, session
from optimize.bundle.classifier import AnswerError, softmax
from optimize.bundle.folder import check_files, read_manifest
from optimize.bundle.manifest import OutOfScope

TEXTS = (
    "cancel the thing 1",
    "where my order now please hello 22",
    "money 3",
    "please track my parcel today now the order hello 444444444",
    "stop",
    "refund my order please 5",
    "end the thing now 66",
    "hello where is the parcel my thing order 7777",
    "back",
)


@pytest.fixture
def bundle(tiny_kit, tmp_path):
    return shutil.copytree(tiny_kit / "student-int8", tmp_path / "bundle")


@pytest.fixture(scope="module")
def int8(tiny_kit):
    return Classifier(tiny_kit / "student-int8", threads=1)


@pytest.fixture(scope="module")
def fp32(tiny_kit):
    # No activation scales, so a text's answer does not hang on its batch.
    return Classifier(tiny_kit / "student-onnx", threads=1)


def edit(bundle, **changes):
    path = bundle / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rename_file(bundle, old, new):
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    files[new] = files.pop(old)
    edit(bundle, files=files)


def put(bundle, name, content):
    """Replace a file, and its size and digest in the manifest."""
    (bundle / name).write_bytes(content)
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    files[name] = {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit(bundle, files=files)


def refusal(bundle):
    with pytest.raises(BundleError) as refused:
        Classifier(bundle, threads=1)
    return str(refused.value)


def test_labels_are_the_manifests(int8):
    assert int8.labels == ("cancel", "refund", "track")


def test_shapes(int8):
    shape = (len(TEXTS), 3)
    logits, probabilities = int8.logits(TEXTS), int8.predict_proba(TEXTS)
    assert (logits.shape, logits.dtype) == (shape, np.float32)
    assert (probabilities.shape, probabilities.dtype) == (shape, np.float32)
    assert len(int8.predict(TEXTS)) == len(TEXTS)


def test_probabilities_sum_to_one(int8):
    probabilities = int8.predict_proba(TEXTS)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert np.all(probabilities > 0)


def test_prediction_is_the_most_probable_label(int8):
    answers, probabilities = int8.predict(TEXTS), int8.predict_proba(TEXTS)
    best = [max(zip(row.tolist(), int8.labels, strict=True)) for row in probabilities]
    assert answers == [Prediction(label, probability) for probability, label in best]
    assert all(type(answer.probability) is float for answer in answers)
    assert len({answer.label for answer in answers}) > 1


@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
def test_answers_keep_the_order_of_the_texts(fp32, batch_size):
    alone = np.concatenate([fp32.logits([text]) for text in TEXTS])
    distances = np.abs(alone[:, None] - alone[None]).max(axis=-1) + np.eye(len(TEXTS))
    assert distances.min() > 1e-3
    np.testing.assert_allclose(fp32.logits(TEXTS, batch_size=batch_size), alone, atol=1e-5)


def test_int8_answer_at_batch_1_has_no_neighbours(int8):
    forth, back = (int8.logits(texts, batch_size=1) for texts in (TEXTS, TEXTS[::-1]))
    np.testing.assert_array_equal(forth, back[::-1])


def test_batches_are_by_length_and_hold_every_row_once(int8):
    batches = list(int8.encoder.batches(TEXTS, 4))
    lengths = [batch["attention_mask"].sum(axis=1).tolist() for _, batch in batches]
    assert [len(rows) for rows, _ in batches] == [4, 4, 1]
    assert sorted(row for rows, _ in batches for row in rows) == list(range(len(TEXTS)))
    assert list(chain(*lengths)) == sorted(chain(*lengths))
    assert [batch["input_ids"].shape[1] for _, batch in batches] == [max(row) for row in lengths]


def test_padding_is_masked(int8):
    ((rows, batch),) = int8.encoder.batches(["stop", "cancel the order now"], 2)
    assert rows == [0, 1]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]
    assert batch["input_ids"][0, 3:].tolist() == [0, 0, 0]
    assert not batch["token_type_ids"].any()


def test_no_texts_no_answers(int8):
    assert int8.predict([]) == []
    assert int8.logits([]).shape == int8.predict_proba([]).shape == (0, 3)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "logits"])
def test_one_string_is_refused(int8, method):
    with pytest.raises(TypeError, match=r"texts is one string; pass a list .* \[text\]"):
        getattr(int8, method)("where is my order")


@pytest.mark.parametrize("batch_size", [0, -1])
def test_batch_size_below_1_is_refused(int8, batch_size):
    with pytest.raises(ValueError, match=f"batch_size is {batch_size}; it must be at least 1"):
        int8.predict(TEXTS, batch_size=batch_size)


def test_long_text_is_truncated_to_max_length(int8):
    kept = int8.manifest.max_length - 2  # [CLS] and [SEP] count
    long = "track " * kept
    ((_, batch),) = int8.encoder.batches([long + "cancel " * 5000], 1)
    assert batch["input_ids"].shape == (1, int8.manifest.max_length)
    np.testing.assert_array_equal(int8.logits([long + "cancel " * 5000]), int8.logits([long]))
    assert not np.array_equal(int8.logits([long[6:]]), int8.logits([long]))


@pytest.mark.parametrize("text", ["", " \t\n", "Ünïcödé", "取消订单", "🙂\u200d\U0010ffff", "a\0b"])
def test_any_string_is_answered(int8, text):
    (probabilities,) = int8.predict_proba([text])
    assert np.isfinite(probabilities).all()
    assert probabilities.sum() == pytest.approx(1, rel=1e-6)


def test_empty_string_keeps_its_place(fp32):
    texts = ["where is my parcel", "", "cancel"]
    alone = np.concatenate([fp32.logits([text]) for text in texts])
    np.testing.assert_allclose(fp32.logits(texts), alone, atol=1e-5)


def test_eight_threads_give_the_same_answers(int8):
    expected = [int8.logits(TEXTS[start:], batch_size=3) for start in range(8)]
    with ThreadPoolExecutor(8) as pool:
        jobs = [
            (start, pool.submit(int8.logits, TEXTS[start:], batch_size=3))
            for _ in range(25)
            for start in range(8)
        ]
    for start, job in jobs:
        np.testing.assert_array_equal(job.result(), expected[start])


def test_temperature_changes_probabilities_and_no_label(int8, bundle):
    edit(bundle, temperature=4.0)
    softer = Classifier(bundle, threads=1)
    logits = int8.logits(TEXTS)
    np.testing.assert_array_equal(softer.logits(TEXTS), logits)
    exact = np.exp(logits.astype(float) / 4)
    exact /= exact.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softer.predict_proba(TEXTS), exact, rtol=1e-5)
    pairs = list(zip(softer.predict(TEXTS), int8.predict(TEXTS), strict=True))
    assert [soft.label for soft, _ in pairs] == [sharp.label for _, sharp in pairs]
    assert all(soft.probability < sharp.probability for soft, sharp in pairs)


def test_untouched_copy_is_read(int8, bundle):
    np.testing.assert_array_equal(Classifier(bundle, threads=1).logits(TEXTS), int8.logits(TEXTS))
    assert Classifier(str(bundle), threads=1).labels == int8.labels


AGAIN = "`optimize build --out DIR` leaves a bundle in DIR/student-int8."


def test_missing_manifest(bundle):
    (bundle / "manifest.json").unlink()
    assert refusal(bundle) == f"not a bundle: {bundle} has no manifest.json. {AGAIN}"


def test_missing_folder(tmp_path):
    missing = tmp_path / "nowhere"
    assert refusal(missing) == f"not a bundle: {missing} has no manifest.json. {AGAIN}"


@pytest.mark.parametrize("content", [b"{oops", b"", b"\xff\xfe{}"])
def test_manifest_that_is_no_json(bundle, content):
    (bundle / "manifest.json").write_bytes(content)
    told = refusal(bundle)
    assert told.startswith(f"not a bundle: {bundle / 'manifest.json'} is not JSON: ")
    assert told.endswith(AGAIN)


@pytest.mark.parametrize("version", [0, 4, "1", None])
def test_other_schema_version(bundle, version):
    edit(bundle, schema_version=version)
    assert refusal(bundle) == (
        f"not a bundle: {bundle / 'manifest.json'} has schema_version {version!r}; this version "
        f"of optimize reads 1, 2 and 3. {AGAIN}"
    )


def test_manifest_that_is_no_object(bundle):
    (bundle / "manifest.json").write_text("[1]")
    assert "has schema_version None" in refusal(bundle)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": "red"}, "Object contains unknown field `colour`"),
        ({"labels": ["only"]}, "Expected `array` of length >= 2 - at `$.labels`"),
        ({"labels": ["one", "two", "one"]}, "label 'one' is there more than once"),
        ({"temperature": 0}, "Expected `float` > 0.0 - at `$.temperature`"),
        ({"max_length": 0}, "Expected `int` >= 3 - at `$.max_length`"),
        ({"out_of_scope": {"label": "none of them", "bias": 1}}, "'none of them' is not one of"),
        ({"files": {"model.onnx": {"size_bytes": 1, "sha256": "abc"}}}, ".sha256`"),
    ],
)
def test_malformed_manifest(bundle, changes, words):
    edit(bundle, **changes)
    told = refusal(bundle)
    assert told.startswith(f"not a bundle: {bundle / 'manifest.json'} is not a manifest: ")
    assert words in told


@pytest.mark.parametrize("value", [0.0, -1.0, 1e-39, 1e300, float("inf"), float("nan")])
def test_a_temperature_that_no_answer_can_be_made_with(bundle, value):
    with pytest.raises(
        ValueError, match=re.escape(f"temperature is {value}; it must be 1e-06 to 1e+06")
    ):
        replace(read_manifest(bundle), temperature=value)


@pytest.mark.parametrize("value", [1e300, -1e7, float("inf"), float("nan")])
def test_a_bias_that_no_answer_can_be_made_with(value):
    with pytest.raises(ValueError, match=re.escape(f"bias is {value}; it must be -1e+06 to 1e+06")):
        OutOfScope(label="x", bias=value)


def test_manifest_with_nan(bundle):
    edit(bundle, temperature=float("nan"))
    assert "manifest.json is not JSON: NaN is not a number" in refusal(bundle)


@pytest.mark.parametrize(
    "name", ["../model.onnx", "/etc/model.onnx", "a/../../model.onnx", "..\\model.onnx", ""]
)
def test_file_names_may_not_leave_the_folder(bundle, name):
    rename_file(bundle, "model.onnx", name)
    told = refusal(bundle)
    assert "is not a manifest" in told
    assert f"path {name!r} must be relative and stay inside its folder" in told


def test_what_the_hub_adds_to_a_bundle_is_none_of_its_files(bundle):
    """A repository that was downloaded or cloned as a folder."""
    for name in ("report.html", ".gitattributes", "README.md"):
        (bundle / name).write_text("of the Hub")
    (bundle / ".cache").mkdir()
    check_files(bundle, read_manifest(bundle))
    (bundle / "added_tokens.json").write_text("{}")
    with pytest.raises(BundleError, match=r"added_tokens\.json is not in the manifest"):
        check_files(bundle, read_manifest(bundle))


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_file_that_the_manifest_does_not_list(bundle, name):
    rename_file(bundle, name, "other")
    assert refusal(bundle) == f"{bundle / 'manifest.json'} lists no {name}; build the bundle again"


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_missing_file(bundle, name):
    (bundle / name).unlink()
    assert refusal(bundle) == f"{bundle / name} is missing; the manifest lists it. Copy it again."


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
@pytest.mark.parametrize("place", [0, -1])
def test_one_changed_byte(bundle, name, place):
    content = bytearray((bundle / name).read_bytes())
    before = hashlib.sha256(content).hexdigest()
    content[place] ^= 1
    (bundle / name).write_bytes(content)
    assert refusal(bundle) == (
        f"{bundle / name} has SHA-256 {hashlib.sha256(content).hexdigest()} and {len(content)} "
        f"bytes, the manifest says {before} and {len(content)}: it was changed or cut short. "
        "Copy it again."
    )


def test_model_cut_short(bundle):
    content = (bundle / "model.onnx").read_bytes()
    (bundle / "model.onnx").write_bytes(content[:-1])
    told = refusal(bundle)
    assert f"and {len(content) - 1} bytes" in told
    assert f"and {len(content)}: it was changed or cut short" in told


def test_torch_folder(tiny_kit):
    assert refusal(tiny_kit / "student-torch") == (
        f"{tiny_kit / 'student-torch'} holds a torch model; Classifier reads onnx bundles. Export "
        "it with `optimize build`."
    )


@pytest.mark.parametrize("content", [b"", b"garbage" * 100])
def test_garbage_model_with_the_right_digest(bundle, content):
    put(bundle, "model.onnx", content)
    assert refusal(bundle).startswith(f"{bundle / 'model.onnx'} is not an ONNX model: ")


def test_model_that_onnxruntime_refuses(bundle):
    """It reads as a model, and is none that runs."""
    put(bundle, "model.onnx", hand_made(node("NoSuchOperator"), ("", 17)))
    told = refusal(bundle)
    assert told.startswith("onnxruntime ")
    assert f" cannot load {bundle / 'model.onnx'}: " in told


def model_of(factors, *, source="input_ids", rank=2):
    """ONNX bytes of: the mean token id of each text, times a factor for each label."""
    from onnx import TensorProto, helper

    width = [] if rank == 1 else [1]
    factor = helper.make_tensor("factor", TensorProto.FLOAT, [*width, len(factors)], factors)
    nodes = [
        helper.make_node("Cast", [source], ["ids"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["ids"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["mean", "factor"], ["logits"]),
    ]
    if rank == 1:
        nodes.append(helper.make_node("ReduceSum", ["logits"], ["one"], keepdims=0))
    answer = (
        helper.make_tensor_value_info("one", TensorProto.FLOAT, [])
        if rank == 1
        else helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["texts", None])
    )
    asked = helper.make_tensor_value_info(source, TensorProto.INT64, ["texts", "tokens"])
    graph = helper.make_graph(nodes, "g", [asked], [answer], [factor])
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


@pytest.mark.torch
@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_a_named_error(bundle, factor):
    labels = len(read_manifest(bundle).labels)
    put(bundle, "model.onnx", model_of([1.0] * labels))
    assert np.isfinite(Classifier(bundle).predict_proba(TEXTS)).all()
    put(bundle, "model.onnx", model_of([1.0] * (labels - 1) + [factor]))
    with pytest.raises(AnswerError, match="scores that are not finite"):
        Classifier(bundle).predict(TEXTS)


@pytest.mark.torch
@pytest.mark.parametrize("offset", [-1, 1])
def test_a_width_that_is_only_seen_in_the_answer_is_refused(bundle, offset):
    labels = len(read_manifest(bundle).labels)
    content = model_of([1.0] * (labels + offset))
    put(bundle, "model.onnx", content)
    with pytest.raises(BundleError, match=f"{labels + offset}"):
        Classifier(bundle).predict(TEXTS)


@pytest.mark.torch
def test_a_model_of_other_inputs_or_outputs_is_refused(bundle):
    put(bundle, "model.onnx", model_of([1.0, 2.0], source="pixels"))
    assert "wants the input 'pixels'" in refusal(bundle)
    put(bundle, "model.onnx", model_of([1.0, 2.0], rank=1))
    assert "answers tensor(float) of shape []" in refusal(bundle)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "manifest.json"])
def test_a_pipe_is_not_waited_for(bundle, name):
    (bundle / name).unlink()
    os.mkfifo(bundle / name)
    assert "it is not a regular file" in refusal(bundle)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_a_device_without_end_is_not_read(bundle, name):
    (bundle / name).unlink()
    (bundle / name).symlink_to("/dev/zero")
    assert "it is not a regular file" in refusal(bundle)


def test_a_sparse_manifest_of_8_gib_is_not_read(bundle):
    with (bundle / "manifest.json").open("r+b") as stream:
        stream.truncate(2**33)
    assert "8,589,934,592 bytes, above the" in refusal(bundle)


def test_a_manifest_nested_without_end_is_refused(bundle):
    (bundle / "manifest.json").write_text("[" * 100_000)
    assert "is not JSON" in refusal(bundle)


def test_a_million_labels_are_refused_by_their_number(bundle):
    names = [f"label {number}" for number in range(10**6)]
    edit(bundle, labels=names)
    assert "labels" in refusal(bundle)
    edit(bundle, labels=[*names, "label 5"])
    assert "label 'label 5' is there more than once" in refusal(bundle)


def test_threads_are_bounded_by_the_cores(bundle):
    with pytest.warns(UserWarning, match=r"threads is 100000, .* are used"):
        Classifier(bundle, threads=100_000)
    with pytest.raises(ValueError, match="threads is 0; it must be at least 1"):
        Classifier(bundle, threads=0)


def test_custom_operators_are_refused(bundle):
    put(bundle, "model.onnx", hand_made(node("Mine", "my.domain"), ("", 17)))
    assert "needs the custom operators my.domain:Mine" in refusal(bundle)


@pytest.mark.parametrize("location", ["weights.bin", "../../etc/passwd"])
def test_external_data_is_refused(bundle, location):
    graph = node("MatMul") + field(5, tensor("w", location))
    put(bundle, "model.onnx", hand_made(graph, ("", 17)))
    assert f"keeps tensors in {location}" in refusal(bundle)


def test_model_that_is_too_new_names_the_runtime_that_it_needs(bundle, monkeypatch):
    monkeypatch.setattr(session, "FIRST_WITH_OPSET", {16: (1, 10), 99: (99, 1)})
    put(bundle, "model.onnx", hand_made(node("NoSuchOperator"), ("", 17)))
    told = refusal(bundle)
    assert "opset 17 needs onnxruntime ≥ 99.1; this is " in told
    monkeypatch.setattr(session, "FIRST_WITH_OPSET", {16: (1, 10)})
    assert "opset 17 is newer than this version of optimize knows" in refusal(bundle)


def test_file_that_is_too_large_is_not_read(bundle, monkeypatch):
    monkeypatch.setattr(folder, "LARGEST_BYTES", 1000)
    assert "above the 1,000 allowed" in refusal(bundle)


def test_out_of_scope_bias_moves_answers_and_is_part_of_the_probabilities(int8, bundle):
    label = int8.labels[1]
    edit(bundle, out_of_scope={"label": label, "bias": 1000.0})
    biased = Classifier(bundle, threads=1)
    np.testing.assert_array_equal(biased.logits(TEXTS), int8.logits(TEXTS))
    assert {answer.label for answer in biased.predict(TEXTS)} == {label}
    np.testing.assert_allclose(biased.predict_proba(TEXTS)[:, 1], 1.0)


def test_out_of_scope_label_must_be_one_of_the_labels(bundle):
    edit(bundle, out_of_scope={"label": "nobody", "bias": 1.0})
    assert "out_of_scope.label 'nobody' is not one of labels" in refusal(bundle)


def test_manifest_of_the_first_schema_is_read(int8, bundle):
    path = bundle / "manifest.json"
    content = json.loads(path.read_text())
    del content["out_of_scope"]
    path.write_text(json.dumps(content | {"schema_version": 1}))
    np.testing.assert_array_equal(Classifier(bundle, threads=1).logits(TEXTS), int8.logits(TEXTS))


@pytest.mark.parametrize("content", [b"{}", b"\xff"])
def test_garbage_tokenizer_with_the_right_digest(bundle, content):
    put(bundle, "tokenizer.json", content)
    assert refusal(bundle).startswith(f"{bundle / 'tokenizer.json'} is not a tokenizer: ")


def rows_within(bound):
    shape = st.tuples(st.integers(1, 4), st.integers(1, 6))
    return arrays.arrays(np.float32, shape, elements=st.floats(-bound, bound, width=32))


FAR = rows_within(2.0**120)
NEAR = rows_within(20.0)
untimed = settings(deadline=None)


@untimed
@given(FAR)
def test_softmax_is_a_distribution(logits):
    found = softmax(logits)
    assert (found.shape, found.dtype) == (logits.shape, np.float32)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-6)


@untimed
@given(FAR)
def test_softmax_keeps_the_order(logits):
    found = softmax(logits)
    for row, answer in zip(logits, found, strict=True):
        assert (np.diff(answer[np.argsort(row)]) >= 0).all()


@untimed
@given(NEAR)
def test_softmax_is_its_formula(logits):
    exact = np.exp(logits.astype(float))
    np.testing.assert_allclose(softmax(logits), exact / exact.sum(axis=-1)[:, None], rtol=1e-5)


@untimed
@given(NEAR, st.integers(-64, 64))
def test_softmax_ignores_a_shift(logits, shift):
    moved = softmax(logits + np.float32(shift))
    np.testing.assert_allclose(moved, softmax(logits), rtol=1e-4)


@untimed
@given(NEAR, st.randoms(use_true_random=False))
def test_softmax_goes_with_a_permutation(logits, random):
    order = random.sample(range(logits.shape[1]), logits.shape[1])
    np.testing.assert_allclose(softmax(logits[:, order]), softmax(logits)[:, order], rtol=1e-5)
