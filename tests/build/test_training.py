"""Collation, the logit store, augmentation, and the trainer that joins them."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from optimize.build import checkpoint, data
from optimize.build.augment import augmented
from optimize.build.distill import DistillationTrainer, distill, transfer_set
from optimize.build.logits import (
    LogitsError,
    Targets,
    import_precomputed,
    read_store,
    read_targets,
    score,
    token_batches,
)
from optimize.build.losses import UNLABELLED, distillation_loss
from optimize.build.student import classification_head
from optimize.build.training import PaddingCollator, tokenised, training_arguments
from optimize.settings import DataSettings, DistillSettings

TEXTS = ("track my parcel", "refund", "cancel the order please today")


@pytest.fixture(scope="module")
def teacher(tiny_kit):
    folder = str(tiny_kit / "teacher-torch")
    return checkpoint.load_classifier(folder).eval(), checkpoint.load_tokenizer(folder)


@pytest.fixture(scope="module")
def splits(tiny_data):
    return data.load(DataSettings(source=str(tiny_data)))


def direct_logits(teacher, text):
    model, tokenizer = teacher
    with torch.inference_mode():
        return model(**tokenizer([text], return_tensors="pt")).logits[0].numpy()


def test_store_holds_the_teachers_logits_row_by_row(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr("optimize.build.logits.has_bf16", lambda: False)
    score(*teacher, TEXTS, tmp_path, 32, lambda line: None)
    stored, pooled = read_targets(tmp_path)
    assert stored.shape == (3, 3)
    assert isinstance(stored, np.memmap)
    for row, text in zip(stored, TEXTS, strict=True):
        np.testing.assert_allclose(row, direct_logits(teacher, text), atol=1e-5)
    head = classification_head(teacher[0])
    with torch.inference_mode():
        again = head(torch.from_numpy(np.array(pooled))).numpy()
    np.testing.assert_allclose(again, stored, atol=1e-5)
    assert not head._forward_pre_hooks


@given(st.lists(st.integers(1, 128), min_size=1, max_size=200), st.integers(1, 4096))
def test_token_batches_cover_every_row_once_within_the_budget(lengths, tokens):
    lengths = np.asarray(lengths)
    batches = token_batches(lengths, tokens)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) == 1 or len(rows) * lengths[rows].max() <= tokens


def precomputed(path, **change):
    arrays = {
        "labels": np.array(["b", "a"]),
        "train": np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32),
    } | change
    np.savez(path, **arrays)
    return path


def test_precomputed_logits_are_put_in_our_order_of_labels(tmp_path):
    source = precomputed(tmp_path / "l.npz")
    import_precomputed(source, "train", 2, ("a", "b"), tmp_path / "l.npy")
    assert read_store(tmp_path / "l.npy").tolist() == [[2.0, 1.0], [4.0, 3.0]]


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


def test_augmented_texts_are_new_and_the_same_for_a_seed():
    texts, labels = [f"please track order {n} today" for n in range(20)], [n % 2 for n in range(20)]
    made = augmented(texts, labels, 4, 0)
    assert made == augmented(texts, labels, 4, 0) != augmented(texts, labels, 4, 1)
    assert len(made) == len(set(made)) > 40
    assert not set(made) & set(texts)
    assert all(made)
    assert augmented(texts, labels, 0, 0) == []


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip), min_size=1))
def test_augmentation_takes_any_text(texts):
    made = augmented(texts, [0] * len(texts), 4, random.randrange(100))
    assert all(text.strip() for text in made)


def test_transfer_set_keeps_labels_only_where_there_are_some(splits):
    texts, labels = transfer_set(splits, DistillSettings(augment=4))
    count = len(splits.train)
    assert texts[:count] == splits.train.texts
    assert labels[:count].tolist() == splits.train.labels.tolist()
    assert set(labels[count:].tolist()) == {UNLABELLED}


def test_collator_joins_teacher_logits_by_index(teacher):
    _, tokenizer = teacher
    rows = tokenised(TEXTS, np.array([2, 1, 0]), tokenizer, 32)
    rows = rows.add_column("index", [0, 1, 2])
    logits = np.arange(9, dtype=np.float32).reshape(3, 3)
    batch = PaddingCollator(tokenizer, {"teacher_logits": logits})([rows[2], rows[0]])
    assert batch["teacher_logits"].tolist() == [logits[2].tolist(), logits[0].tolist()]
    assert batch["labels"].tolist() == [0, 2]
    assert batch["input_ids"].shape[1] == max(rows[2]["length"], rows[0]["length"])


def test_trainers_loss_is_the_pure_function(teacher, tmp_path):
    model, tokenizer = teacher
    settings = DistillSettings(precision="fp32", temperature=3.0, alpha=0.3)
    rows = tokenised(TEXTS, np.array([2, 1, 0]), tokenizer, 32).add_column("index", [0, 1, 2])
    logits = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)
    collate = PaddingCollator(tokenizer, {"teacher_logits": logits})
    trainer = DistillationTrainer(
        settings=settings,
        model=model,
        args=training_arguments(settings, tmp_path),
        data_collator=collate,
        train_dataset=rows,
        eval_dataset=rows,
    )
    batch = collate(list(rows))
    with torch.inference_mode():
        loss, outputs = trainer.compute_loss(model, batch, return_outputs=True)
        expected = distillation_loss(
            outputs["logits"], batch["teacher_logits"], batch["labels"], 3.0, 0.3
        )
        assert torch.allclose(loss, expected)
        del batch["teacher_logits"]
        hard = torch.nn.functional.cross_entropy(outputs["logits"], batch["labels"])
        assert torch.allclose(trainer.compute_loss(model, batch), hard)


def distilled(splits, teacher_logits, backbone, work, *, pooled_rows=None, **change):
    fixed = {"epochs": 4, "batch_size": 8, "learning_rate": 5e-3, "precision": "fp32"}
    settings = DistillSettings(**fixed | change)
    model = checkpoint.load_backbone(str(backbone), splits.label_names)
    tokenizer = checkpoint.load_tokenizer(str(backbone))
    return distill(
        settings,
        (model, tokenizer),
        Targets(teacher_logits, pooled_rows),
        splits,
        32,
        work,
        lambda line: None,
    )


def test_student_learns_from_the_teacher_alone(splits, tiny_backbone, tmp_path):
    """alpha = 0 and a teacher that turns every label round: the student follows the teacher."""
    original = splits.train.labels
    turned = (original + 1) % 3
    # The epoch that does best on validation is kept: its labels are turned round as well.
    found = replace(splits.validation, labels=(splits.validation.labels + 1) % 3)
    splits = replace(splits, validation=found)
    logits = np.eye(3, dtype=np.float32)[turned] * 8
    model = distilled(
        splits, logits, tiny_backbone, tmp_path, alpha=0.0, temperature=1.0, epochs=24
    ).eval()
    rows = tokenised(splits.train.texts, None, checkpoint.load_tokenizer(str(tiny_backbone)), 32)
    collate = PaddingCollator(checkpoint.load_tokenizer(str(tiny_backbone)))
    with torch.inference_mode():
        answers = model(**collate(list(rows))).logits.argmax(-1).numpy()
    # By the labels, every one of these answers is wrong.
    assert (answers == turned).mean() > 0.6 > (answers == original).mean()


def test_frozen_embeddings_do_not_move(splits, tiny_backbone, tmp_path):
    logits = np.eye(3, dtype=np.float32)[splits.train.labels] * 8
    before = checkpoint.load_backbone(str(tiny_backbone), splits.label_names)
    old = before.get_input_embeddings().weight
    for frozen in (True, False):
        model = distilled(
            splits, logits, tiny_backbone, tmp_path / str(frozen), freeze_embeddings=frozen
        )
        assert torch.equal(model.get_input_embeddings().weight, old) is frozen


def test_killed_training_resumes_to_the_same_weights(splits, tiny_backbone, tmp_path):
    from transformers import TrainerCallback

    logits = np.eye(3, dtype=np.float32)[splits.train.labels] * 8
    whole = distilled(splits, logits, tiny_backbone, tmp_path / "whole")

    class Killed(TrainerCallback):
        def on_save(self, args, state, control, **_):
            if state.epoch == 2:
                raise KeyboardInterrupt

    import optimize.build.distill as module

    original = module.callbacks
    module.callbacks = lambda *arguments: [*original(*arguments), Killed()]
    try:
        with pytest.raises(KeyboardInterrupt):
            distilled(splits, logits, tiny_backbone, tmp_path / "cut")
    finally:
        module.callbacks = original
    assert list((tmp_path / "cut").glob("checkpoint-*"))
    resumed = distilled(splits, logits, tiny_backbone, tmp_path / "cut")
    for ours, theirs in zip(resumed.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("width", [32, 24])
def test_pooled_embeddings_are_learned_and_leave_no_trace(splits, tiny_backbone, tmp_path, width):
    logits = np.eye(3, dtype=np.float32)[splits.train.labels] * 8
    rows = np.random.default_rng(0).normal(size=(len(logits), width)).astype(np.float32)
    model = distilled(
        splits, logits, tiny_backbone, tmp_path, pooled=1.0, pooled_rows=rows, alpha=0.5
    )
    plain = checkpoint.load_backbone(str(tiny_backbone), splits.label_names)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert not classification_head(model)._forward_pre_hooks


def test_pooled_loss_without_embeddings_is_refused(splits, tiny_backbone, tmp_path):
    logits = np.zeros((len(splits.train), 3), dtype=np.float32)
    with pytest.raises(ValueError, match="needs the teacher's embeddings"):
        distilled(splits, logits, tiny_backbone, tmp_path, pooled=1.0)
