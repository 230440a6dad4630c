"""Texts that a student learns from: the data's, variations of them, and the user's own."""

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimize.data import load as data
from optimize.data.augment import augmented
from optimize.data.splits import UNLABELLED, DataError
from optimize.data.transfer_set import TransferSet, build_transfer_set
from optimize.data.unlabelled import OwnTexts
from optimize.models import checkpoint
from optimize.models.embeddings import nearest_words, word_replacements
from optimize.settings.data import DataSettings
from optimize.workspace import Workspace

KINDS = ("drop", "swap", "within", "across", "replace")


@pytest.fixture(scope="module")
def splits(tiny_data):
    return data.load(DataSettings(source=str(tiny_data)))


def written(splits, folder, *, augment=0, transfer=None):
    own = None if transfer is None else OwnTexts(transfer, "text")
    asked = {"augment": augment, "kinds": KINDS[:4], "seed": 0, "own": own}
    build_transfer_set(folder, Workspace(folder, print), data=splits.training, **asked)
    return TransferSet(folder)


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
    made = augmented(texts, [0] * len(texts), 5, random.randrange(100), KINDS, {"a": ["b"]})
    assert all(text.strip() for text in made)


def test_kinds_do_what_they_say():
    texts, labels = ["one two three four", "five six seven eight"], [0, 1]

    def words(kind, **more):
        made = augmented(texts, labels, 8, 0, (kind,), more.get("replacements"))
        return [set(text.split()) for text in made]

    assert all(
        made < set(texts[0].split()) or made < set(texts[1].split()) for made in words("drop")
    )
    assert all(made in (set(texts[0].split()), set(texts[1].split())) for made in words("swap"))
    own = [set(text.split()) for text in texts]
    assert all(any(made <= one for one in own) for made in words("within"))
    assert any(not any(made <= one for one in own) for made in words("across"))
    assert any("drei" in made for made in words("replace", replacements={"three": ["drei"]}))
    with pytest.raises(ValueError, match="need replacements"):
        words("replace")


def test_nearest_words_are_nearest_by_angle():
    vectors = np.array([[1, 0], [9, 1], [0, 1], [-1, 0]], dtype=np.float32)
    found = nearest_words(("a", "b", "c", "d"), vectors, count=2)
    assert found["a"] == ["b", "c"]
    assert found["c"][0] == "b"
    assert all(word not in near for word, near in found.items())


def test_replacements_are_whole_words_of_the_texts(tiny_kit):
    folder = str(tiny_kit / "teacher-torch")
    model, tokenizer = checkpoint.load_classifier(folder), checkpoint.load_tokenizer(folder)
    found = word_replacements(["Track my parcel", "xyz my order 12"], model, tokenizer)
    # 12 is two tokens, xyz none that the tokenizer knows
    assert found.keys() == {"track", "my", "parcel", "order"}
    assert all(set(near) <= found.keys() for near in found.values())


def test_transfer_set_keeps_labels_only_where_there_are_some(splits, tmp_path):
    found = written(splits, tmp_path, augment=4)
    texts, count = list(found.texts()), len(splits.train)
    assert len(found) == len(texts) > 2 * count
    assert tuple(texts[:count]) == splits.train.texts
    assert found.labels[:count].tolist() == splits.train.labels.tolist()
    assert set(found.labels[count:].tolist()) == {UNLABELLED}
    assert list(TransferSet(tmp_path).texts()) == texts


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("more.txt", "one more\n\n two more \n"),
        ("more.csv", "text,other\none more,1\ntwo more,2\n"),
        ("more.jsonl", '{"text": "one more"}\n{"text": "two more"}\n'),
    ],
)
def test_texts_of_ones_own_join_without_labels(splits, tmp_path, name, content):
    file = tmp_path / name
    file.write_text(content, encoding="utf-8")
    found = written(splits, tmp_path, transfer=str(file))
    assert list(found.texts())[-2:] == ["one more", "two more"]
    assert found.labels[-2:].tolist() == [UNLABELLED, UNLABELLED]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("more.csv", "body\nhello\n", "'text'"),
        ("more.jsonl", json.dumps({"text": 5}), "row 1: 5 is int, not a string"),
        ("", "", "is a folder"),
    ],
)
def test_texts_that_cannot_be_read_are_refused(splits, tmp_path, name, content, words):
    file = tmp_path / name
    if name:
        file.write_text(content)
    with pytest.raises(DataError, match=words):
        written(splits, tmp_path, transfer=str(file))


def test_hub_set_that_is_not_there_is_refused(splits, tmp_path):
    with pytest.raises(DataError, match="is no file here, and as a Hub data set"):
        written(splits, tmp_path, transfer="nobody/nothing")
