"""Slips of the keyboard: how they are made, and what is learned for a misspelt text."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimize import settings
from optimize.data.misspell import SHORTEST, misspelt, misspelt_copies
from optimize.data.transfer_set import TransferSet
from optimize.distill.student import Learning, student_training_set
from optimize.models import checkpoint
from optimize.pipeline.runner import Build, Runner
from optimize.settings.training import DistillSettings
from optimize.training.run import Run

WORDS = st.lists(st.text("abcdefghijklmnopqrstuvwxyzé'", min_size=1, max_size=9), min_size=1)


@given(WORDS, st.integers(0, 999))
def test_a_slip_leaves_words_short_words_and_first_letters(words, seed):
    made = misspelt(" ".join(words), random.Random(seed)).split()
    assert len(made) == len(words)
    changed = [
        (before, after) for before, after in zip(words, made, strict=True) if before != after
    ]
    assert len(changed) <= 2
    for before, after in changed:
        assert len(before) >= SHORTEST
        assert abs(len(before) - len(after)) <= 2
        assert before[0] == after[0]


@pytest.mark.parametrize("text", ["", "  ", "to be or not", "20231 401ks"])
def test_a_text_without_a_long_word_stays(text):
    assert misspelt(text, random.Random(0)) == text


def test_all_kinds_of_slips_are_made():
    rng = random.Random(0)
    made = Counter(misspelt("track", rng) for _ in range(2000))
    assert {"tarck", "trck", "traack", "trsck"} <= made.keys()
    assert made["track"] < 100  # two slips that undo each other


def test_copies_are_the_same_for_a_seed_and_differ_from_each_other():
    texts = [f"please cancel order number {number}" for number in range(20)]
    copies = list(misspelt_copies(texts, 2, 0))
    assert copies == list(misspelt_copies(iter(texts), 2, 0))
    assert copies != list(misspelt_copies(texts, 2, 1))
    assert copies[:20] != copies[20:]
    assert list(misspelt_copies(texts, 0, 0)) == []


@pytest.fixture
def training_set(tiny_recipe, tmp_path):
    """Of the tiny recipe, with three misspelt copies of each labelled text and two variations."""
    chosen, _ = settings.load(
        str(tiny_recipe), None, ["distill.misspelt=3", "distill.augment=2", "teacher.epochs=1"]
    )
    built = Build(chosen, Runner(lambda line: None, tmp_path / "cache"))
    tokenizer = checkpoint.load_tokenizer(str(built.folder("teacher")))
    texts, outputs = TransferSet(built.folder("transfer-set")), built.folder("teacher-outputs")
    learning = Learning(chosen.student, chosen.distill, chosen.teacher.max_length)
    run, train = Run(tmp_path, lambda line: None), built.splits.train
    return student_training_set(tokenizer, train, texts, outputs, learning, run), len(train)


def test_a_misspelt_copy_carries_what_its_text_carries(training_set):
    made, labelled = training_set
    copies = len(made.tokens) - len(made.labels)
    assert copies == 3 * labelled
    for row in (0, 1, labelled - 1):
        batch = made.batch([row, *range(len(made.labels) + row, len(made.tokens), labelled)])
        assert len(batch["labels"]) == 4
        for name in ("labels", "teacher_logits", "teacher_pooled"):
            assert (batch[name] == batch[name][0]).all()
    ids = made.tokens.batch(np.arange(len(made.labels), len(made.tokens)))["input_ids"]
    own = made.tokens.batch(np.arange(labelled))["input_ids"]
    same = sum(row.tolist() in own.tolist() for row in ids)
    assert same < 0.2 * copies  # nearly all are spelt otherwise


def test_losses_that_go_token_by_token_refuse_misspelt_copies():
    with pytest.raises(ValueError, match=r"distill.misspelt changes the tokens"):
        DistillSettings(misspelt=1, hidden=1.0)
