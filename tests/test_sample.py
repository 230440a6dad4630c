"""What the data card says of the sample, counted."""

import json
import re
from collections import Counter
from importlib import resources

import pytest

SAMPLE = resources.files("optimize") / "sample"


@pytest.fixture(scope="module")
def rows():
    lines = (SAMPLE / "intents.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_size_and_splits(rows):
    assert len({row["text"] for row in rows}) == len(rows) >= 2400
    assert len({row["label"] for row in rows}) == 31
    by_split = Counter(row["split"] for row in rows)
    shares = {split: count / len(rows) for split, count in by_split.items()}
    assert shares == pytest.approx({"train": 0.6, "validation": 0.15, "test": 0.25}, abs=0.01)
    cells = Counter((row["split"], row["label"]) for row in rows)
    assert len(cells) == 3 * 31
    assert 0.04 < Counter(row["label"] for row in rows)["oos"] / len(rows) < 0.06


def test_no_near_duplicate(rows):
    bags = [frozenset(re.findall(r"\w+", row["text"].casefold())) for row in rows]
    by_word = {}
    for number, bag in enumerate(bags):
        for word in bag:
            by_word.setdefault(word, []).append(number)
    for number, bag in enumerate(bags):
        shared = Counter(other for word in bag for other in by_word[word] if other < number)
        for other, common in shared.items():
            jaccard = common / (len(bag) + len(bags[other]) - common)
            assert jaccard < 0.8, (rows[number]["text"], rows[other]["text"])


def test_card_counts_what_is_there(rows):
    card = (SAMPLE / "README.md").read_text("utf-8")
    by_split = Counter(row["split"] for row in rows)
    least = min(Counter(row["label"] for row in rows).values())
    for words in (
        f"{len(rows):,} utterances",
        f"{least} or more a class",
        *(f"| {count:,} |" for count in by_split.values()),
    ):
        assert words in card
