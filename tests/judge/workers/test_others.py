"""Word counts and one's own code, as a worker holds them."""

import numpy as np
import pytest

from optimize.bundle.folder import BundleError
from optimize.bundle.manifest import Manifest, write_json
from optimize.data.splits import Split, TrainingData
from optimize.judge.workers.others import LinearClassifier, PythonClassifier
from optimize.judge.workers.worker import load
from optimize.models.folder import entries

LABELS = ("cancel", "refund", "track")


@pytest.fixture
def python_variant(tmp_path):
    """A variant whose function has this body; ``texts`` is what it is given."""

    def made(body, name="mine_of_the_test"):
        source = f"import numpy as np\ndef make(folder):\n    def answer(texts):\n        {body}\n"
        (tmp_path / f"{name}.py").write_text(f"{source}    return answer\n")
        manifest = Manifest(
            format="python",
            labels=LABELS,
            max_length=512,
            parameters=0,
            files=entries(tmp_path),
            recipe={"python": f"{name}:make"},
        )
        write_json(manifest, tmp_path / "manifest.json")
        return PythonClassifier(tmp_path)

    return made


@pytest.fixture(autouse=True)
def _no_module_stays(monkeypatch):
    import sys

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    sys.modules.pop("mine_of_the_test", None)


FORMS = {
    "labels": "return ['refund' for _ in texts]",
    "pairs": "return [('refund', 0.8) for _ in texts]",
    "an unsure pair": "return [('refund', 0.0) for _ in texts]",
    "a generator": "return (('refund', 0.8) for _ in texts)",
    "probabilities": "return np.array([[0.1, 0.8, 0.1]] * len(texts))",
    "logits": "return np.array([[-1.0, 5.0, 0.0]] * len(texts), dtype=np.float64)",
    "lists of scores": "return [[0.1, 0.8, 0.1] for _ in texts]",
    "rows of scores": "return [np.array([0.1, 0.8, 0.1]) for _ in texts]",
    "as a pipeline": "return [{'label': 'refund', 'score': 0.8} for _ in texts]",
    "a tensor": "import torch; return torch.tensor([[0.1, 0.8, 0.1]] * len(texts))",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_answers(python_variant, form):
    found = python_variant(FORMS[form]).predict_proba(["a", "b", "c"], batch_size=2)
    assert found.shape == (3, 3)
    assert (found.argmax(axis=1) == 1).all()
    if form not in {"labels", "an unsure pair", "logits"}:
        np.testing.assert_allclose(found[:, 1], 0.8, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-3)


def test_probabilities_that_were_rounded_are_none_above_one(python_variant):
    body = "return np.array([[0.0, 1.0005, 0.0], [0.3, 0.3335, 0.366]] * (len(texts) // 2))"
    found = python_variant(body).predict_proba(["a", "b"], batch_size=2)
    assert found[0].tolist() == [0.0, 1.0, 0.0]
    assert found.sum(axis=1) == pytest.approx(1.0, abs=1e-6)
    assert found[1] == pytest.approx([0.3, 0.3335, 0.366], abs=1e-3)


REFUSED = {
    "another label": ("return ['what' for _ in texts]", "the label 'what', which the data has not"),
    "too few": ("return ['refund']", "1 answers to 2 texts"),
    "another shape": ("return np.zeros((1, 2))", r"scores of shape \(1, 2\)"),
    "nothing": ("return None", r"it answered None \(NoneType\) to 2 texts; wanted are a label"),
    "one label": ("return 'refund'", "it answered 'refund'"),
    "class ids": ("return [0 for _ in texts]", "it answered 0 to a text; wanted are a label"),
    "class ids in an array": ("return np.zeros(2, dtype=int)", "to a text; wanted are a label"),
    "lists of labels": ("return [['refund'] for _ in texts]", r"it answered \['refund'\]"),
    "too few scores": ("return [[0.5, 0.5] for _ in texts]", r"scores of shape \(2, 2\)"),
    "no numbers": ("return np.full((2, 3), np.nan)", "no finite numbers"),
    "no probability": ("return [('refund', 7.0) for _ in texts]", r"the probability 7\.0"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_other_answers_are_refused(python_variant, kind):
    body, words = REFUSED[kind]
    with pytest.raises(BundleError, match=words):
        python_variant(body).predict_proba(["a", "b"], batch_size=2)


def test_a_factory_that_fails_says_how(python_variant):
    with pytest.raises(BundleError, match="cannot be made: NameError: name 'absent' is not"):
        python_variant("pass\n    absent()")


@pytest.mark.parametrize("labels", [("no", "yes"), LABELS, (*LABELS, "never seen")])
def test_word_counts_answer_as_scikit_learn(tmp_path, labels):
    linear = pytest.importorskip("optimize.distill.linear")
    pytest.importorskip("sklearn", reason="the extra `linear` is not installed")
    seen = [name for name in labels if name != "never seen"]
    texts = tuple(f"{name} my thing {number % 4}" for number in range(12) for name in seen)
    ids = np.array([labels.index(text.split()[0]) for text in texts])
    data = TrainingData(labels, Split(texts, ids), Split(texts, ids))

    class Told:
        def tell(self, line):
            assert "100.00 %" in line

    linear.build_linear(tmp_path, Told(), data=data)
    model = load(tmp_path, 1)
    assert isinstance(model, LinearClassifier)
    found = model.predict_proba(list(texts), batch_size=5)
    assert (found.argmax(axis=1) == ids).all()
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-5)
    if "never seen" in labels:
        assert (found[:, -1] == 0).all()
