import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from optimize import BundleError, Classifier
from optimize.records import FileEntry

TEXTS = ["refund my order please", "where", "stop the thing now today hello", "money back"]


@pytest.fixture
def bundle(tiny_kit, tmp_path):
    return shutil.copytree(tiny_kit / "student-int8", tmp_path / "bundle")


def edit_manifest(bundle, **changes):
    path = bundle / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_answers_keep_the_order_of_the_texts(tiny_kit):
    classifier = Classifier(tiny_kit / "student-onnx")
    together = classifier.predict_proba(TEXTS)
    apart = np.concatenate([classifier.predict_proba([text]) for text in TEXTS])
    assert together.shape == (4, 3)
    np.testing.assert_allclose(together, apart, atol=1e-5)
    np.testing.assert_allclose(together.sum(axis=1), 1, atol=1e-5)


def test_threads_share_one_classifier(bundle):
    classifier = Classifier(bundle)
    alone = [classifier.predict([text]) for text in TEXTS]
    with ThreadPoolExecutor(8) as pool:
        shared = list(pool.map(lambda text: classifier.predict([text]), TEXTS * 8))
    assert shared == alone * 8


def test_edges(bundle):
    classifier = Classifier(bundle)
    assert classifier.predict([]) == []
    assert len(classifier.predict(["", "naïve 🙂 " * 500])) == 2
    with pytest.raises(TypeError, match="one string"):
        classifier.predict("refund")
    with pytest.raises(ValueError, match="batch_size is 0"):
        classifier.predict(TEXTS, batch_size=0)


def test_temperature_softens_and_keeps_the_labels(bundle):
    before = Classifier(bundle).predict(TEXTS, batch_size=1)
    edit_manifest(bundle, temperature=4.0)
    after = Classifier(bundle).predict(TEXTS, batch_size=1)
    assert [a.label for a in after] == [b.label for b in before]
    assert all(a.probability < b.probability for a, b in zip(after, before, strict=True))


def test_changed_model_is_refused(bundle):
    path = bundle / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)
    with pytest.raises(BundleError, match="it was changed or cut short"):
        Classifier(bundle)


def test_garbage_with_the_right_digest_is_refused(bundle):
    path = bundle / "model.onnx"
    path.unlink()
    path.write_bytes(b"no model")
    files = json.loads((bundle / "manifest.json").read_text())["files"]
    files["model.onnx"] = FileEntry.of(path).model_dump()
    edit_manifest(bundle, files=files)
    with pytest.raises(BundleError, match=r"onnxruntime .* cannot load"):
        Classifier(bundle)


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda b: (b / "manifest.json").unlink(), "has no manifest.json"),
        (lambda b: (b / "manifest.json").write_text("{"), "is not JSON"),
        (lambda b: edit_manifest(b, schema_version=9), "schema_version 9"),
        (lambda b: edit_manifest(b, files={}), "lists no model.onnx"),
        (lambda b: edit_manifest(b, labels=["one"]), "is not a manifest"),
        (lambda b: edit_manifest(b, files={"../x": {}}), "stay inside its folder"),
        (lambda b: (b / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (lambda b: edit_manifest(b, format="torch"), "reads onnx bundles"),
    ],
)
def test_broken_bundle_is_refused(bundle, break_it, words):
    break_it(bundle)
    with pytest.raises(BundleError, match=words):
        Classifier(bundle)
