"""Shares of the training rows: of each label, seeded, and no text on both sides."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimize.data.shares import with_shares
from optimize.data.sources import RawSplit
from optimize.settings.data import DataSettings
from optimize.settings.load import SettingsError, parse


def pool(rows):
    found = RawSplit("all.csv")
    for row, (text, label) in enumerate(rows, start=2):
        found.add(row, text, label)
    return {"train": found}


ROWS = st.lists(
    st.tuples(st.text("abc ", min_size=1, max_size=4), st.sampled_from("xyz")), min_size=1
)


@given(ROWS, st.floats(0.05, 0.45), st.floats(0.05, 0.45), st.integers(0, 3))
def test_every_row_is_in_one_split_and_like_texts_are_together(rows, validation, test, seed):
    settings = DataSettings(validation=validation, test=test, split_seed=seed)
    found = with_shares(pool(rows), settings)
    placed = [row for split in found.values() for row in split.rows]
    assert sorted(placed) == list(range(2, len(rows) + 2))
    words = [
        {" ".join(sorted(set(text.split()))) or text for text in split.texts}
        for split in found.values()
    ]
    assert not any(words[a] & words[b] for a in range(3) for b in range(a))
    assert all(split.rows == sorted(split.rows) for split in found.values())
    again = with_shares(pool(rows), settings)
    assert {name: split.rows for name, split in found.items()} == {
        name: split.rows for name, split in again.items()
    }


def test_each_label_keeps_its_share():
    rows = [(f"{label} number {n}", label) for label, size in (("a", 100), ("b", 10), ("c", 1))
            for n in range(size)]  # fmt: skip
    found = with_shares(pool(rows), DataSettings(validation=0.1, test=0.2))
    counts = {name: Counter(split.labels) for name, split in found.items()}
    assert counts["test"] == {"a": 20, "b": 2}
    assert counts["validation"] == {"a": 10, "b": 1}
    assert counts["train"] == {"a": 70, "b": 7, "c": 1}


def test_another_seed_takes_other_rows():
    rows = [(f"text {n}", "a") for n in range(100)]
    one, two = (with_shares(pool(rows), DataSettings(validation=0.1, test=0.2, split_seed=seed))
                for seed in (0, 1))  # fmt: skip
    assert one["test"].rows != two["test"].rows


def test_a_share_beside_a_split_that_is_there():
    raw = pool([(f"text {n}", "a") for n in range(50)])
    raw["test"] = RawSplit("test.csv", [1], ["mine"], ["a"])
    found = with_shares(raw, DataSettings(validation=0.1))
    assert found["test"].texts == ["mine"]
    assert len(found["validation"].rows) == 5


@pytest.mark.parametrize("given", [{"validation": 0.5, "test": 0.5}, {"test": 1.0}, {"test": 0}])
def test_shares_must_leave_something(given):
    with pytest.raises(SettingsError):
        parse({"data": given}, "test")


def test_rare_labels_reach_every_split_though_their_sets_are_rarer_still():
    """Each set of labels is there twice; dealt by sets, half of all rows would be trained on."""
    labels = [[f"common{n % 3}", f"rare{n % 8}"] for n in range(96)]
    pool = RawSplit("d", list(range(96)), [f"text {n} word{n}" for n in range(96)], labels)
    settings = DataSettings(validation=0.25, test=0.25, problem_type="multi_label_classification")
    found = with_shares({"train": pool}, settings)
    rare = {f"rare{n}" for n in range(8)}
    for split in ("train", "validation", "test"):
        assert {label for row in found[split].labels for label in row} >= rare
    assert len(found["test"].labels) == len(found["validation"].labels) == 24


@pytest.mark.parametrize("size", [2, 3, 5])
def test_labels_of_few_texts_reach_every_split_together(size):
    """A tenth of five texts is half a text: every other label gives one, and none gives all."""
    rows = [
        (f"label{label} number {n}", f"label{label}") for label in range(60) for n in range(size)
    ]
    found = with_shares(pool(rows), DataSettings(validation=0.1, test=0.1))
    counts = {name: Counter(split.labels) for name, split in found.items()}
    assert len(counts["train"]) == 60
    for split in ("validation", "test"):
        assert abs(counts[split].total() - 6 * size) <= 1
        assert max(counts[split].values()) == 1


def test_labels_of_one_text_are_learnt_and_owe_nothing():
    rows = [(f"single {n}", f"single{n}") for n in range(50)]
    rows += [(f"text{n}x{m}", f"four{n}") for n in range(5) for m in range(4)]
    found = with_shares(pool(rows), DataSettings(validation=0.1, test=0.1))
    assert len(found["test"].labels) == len(found["validation"].labels) == 2
