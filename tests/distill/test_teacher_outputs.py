"""The teacher's answers: what is stored is what it says, whoever shares the work."""

import numpy as np
import pytest
import torch

from optimize.distill.teacher_outputs import LogitsError, Wanted, import_precomputed, score
from optimize.models import checkpoint
from optimize.models.encoder import classification_head
from optimize.training.distributed import Processes
from optimize.training.soft_targets import SoftTargets
from optimize.training.tokens import tokenise

TEXTS = ("track my parcel", "refund", "cancel the order please today")


def silent(line):
    pass


@pytest.fixture(scope="module")
def teacher(tiny_kit):
    folder = str(tiny_kit / "teacher-torch")
    return checkpoint.load_classifier(folder).eval(), checkpoint.load_tokenizer(folder)


@pytest.fixture
def tokens(teacher, tmp_path):
    return tokenise(TEXTS, teacher[1], 32, tmp_path / "tokens")


def direct(teacher, text):
    model, tokenizer = teacher
    with torch.inference_mode():
        return model(**tokenizer([text], return_tensors="pt"), output_hidden_states=True)


def test_stores_hold_what_the_teacher_says_row_by_row(teacher, tokens, tmp_path):
    score(teacher[0], tokens, tmp_path, silent, Wanted(hidden=(1, 2), relations=2))
    targets = SoftTargets.read(tmp_path)
    stored = targets.logits[:]
    assert stored.shape == (3, 3)
    for row, text in enumerate(TEXTS):
        said = direct(teacher, text)
        np.testing.assert_allclose(stored[row], said.logits[0].numpy(), atol=1e-5)
        layers = np.concatenate([said.hidden_states[1][0], said.hidden_states[2][0]], axis=-1)
        np.testing.assert_allclose(targets.hidden[np.array([row])][0], layers, atol=5e-3)
        assert targets.relations[np.array([row])][0].shape == (len(layers), 3 * 32)
    head = classification_head(teacher[0])
    with torch.inference_mode():
        again = head(torch.from_numpy(targets.pooled[:])).numpy()
    np.testing.assert_allclose(again, stored, atol=1e-5)
    assert not head._forward_pre_hooks


def test_states_that_no_loss_asks_for_are_not_stored(teacher, tokens, tmp_path):
    score(teacher[0], tokens, tmp_path, silent)
    assert {path.name for path in tmp_path.glob("*.npy")} == {"logits.npy", "pooled.npy"}
    assert SoftTargets.read(tmp_path).hidden is None


def test_shared_among_processes_the_store_is_the_same(teacher, tmp_path, monkeypatch):
    """Each scores its own batches; here one after the other, without a launcher."""
    texts = [f"track my order {n}" for n in range(40)]
    tokens = tokenise(texts, teacher[1], 32, tmp_path / "tokens")
    monkeypatch.setattr("optimize.distill.teacher_outputs.TOKENS_PER_BATCH", 40)
    monkeypatch.setattr(Processes, "wait", lambda self: None)
    for name in ("alone", "shared"):
        (tmp_path / name).mkdir()
    score(teacher[0], tokens, tmp_path / "alone", silent)
    for rank in (0, 1):
        score(teacher[0], tokens, tmp_path / "shared", silent, processes=Processes(rank, 2))
    alone, shared = (SoftTargets.read(tmp_path / name).logits[:] for name in ("alone", "shared"))
    np.testing.assert_array_equal(alone, shared)


def precomputed(path, **change):
    arrays = {
        "labels": np.array(["b", "a"]),
        "train": np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32),
    } | change
    np.savez(path, **arrays)
    return path


def test_precomputed_logits_are_put_in_our_order_of_labels(tmp_path):
    source = precomputed(tmp_path / "l.npz")
    import_precomputed(source, "train", 2, ("a", "b"), tmp_path / "logits.npy")
    targets = SoftTargets.read(tmp_path)
    assert targets.logits[:].tolist() == [[2.0, 1.0], [4.0, 3.0]]
    assert targets.pooled is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": np.array(["b", "c"])}, "must be the same names"),
        ({"train": np.zeros((3, 2))}, r"shape \(3, 2\), the data needs \(2, 2\)"),
        ({"train": np.array([[1.0, 2.0], [np.nan, 0.0]])}, "row 1: a logit is not finite"),
        ({"train": np.array([{}, {}], dtype=object)}, "no readable arrays"),
    ],
)
def test_precomputed_logits_that_do_not_fit_are_refused(tmp_path, change, words):
    source = precomputed(tmp_path / "l.npz", **change)
    with pytest.raises(LogitsError, match=words):
        import_precomputed(source, "train", 2, ("a", "b"), tmp_path / "l.npy")


def test_file_that_is_no_archive_is_refused(tmp_path):
    (tmp_path / "l.npz").write_bytes(b"no")
    with pytest.raises(LogitsError, match="no readable arrays"):
        import_precomputed(tmp_path / "l.npz", "train", 2, ("a", "b"), tmp_path / "l.npy")
