"""Stores that are larger than memory, and batches by length."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimize.data.arrays import Ragged, Rows, padded
from optimize.models import checkpoint
from optimize.training.batches import LengthBatches, token_batches
from optimize.training.tokens import tokenise

TEXTS = ("track my parcel", "refund", "cancel the order please today")
lengths = st.lists(st.integers(1, 128), min_size=1, max_size=200).map(np.asarray)


@pytest.fixture(scope="module")
def tokenizer(tiny_backbone):
    return checkpoint.load_tokenizer(str(tiny_backbone))


def test_tokens_are_the_tokenizers_own(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("optimize.training.tokens.CHUNK", 2)
    tokens = tokenise(iter(TEXTS), tokenizer, 6, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ids.npy", "offsets.npy"]
    rows = np.array([2, 0])
    batch = tokens.batch(rows)
    again = tokenizer(
        [TEXTS[row] for row in rows],
        truncation=True,
        max_length=6,
        padding=True,
        return_tensors="pt",
    )
    assert batch.keys() == again.keys()
    for name, tensor in again.items():
        assert batch[name].tolist() == tensor.tolist()
    assert len(tokens) == 3
    assert tokens.lengths.tolist() == [len(tokenizer(t)["input_ids"][:6]) for t in TEXTS]


def test_no_text_no_tokens(tokenizer, tmp_path):
    assert len(tokenise(iter(()), tokenizer, 6, tmp_path)) == 0


@given(lengths, st.integers(1, 4096))
def test_token_batches_cover_every_row_once_within_the_budget(lengths, tokens):
    batches = token_batches(lengths, tokens)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) == 1 or len(rows) * lengths[rows].max() <= tokens


@given(lengths, st.integers(1, 64), st.integers(0, 9), st.integers(0, 5))
def test_an_epoch_has_every_text_once_in_batches_that_are_never_empty(lengths, size, seed, epoch):
    batches = LengthBatches(lengths, size, seed)
    batches.set_epoch(epoch)
    rows = list(batches)
    assert len(rows) == len(batches)
    assert all(rows)
    assert sorted(row for batch in rows for row in batch) == list(range(len(lengths)))


@given(lengths, st.integers(2, 4))
def test_shares_of_the_processes_make_up_each_batch(lengths, world):
    whole = LengthBatches(lengths, 64, 0).batches()
    if min(map(len, whole)) < world:
        with pytest.raises(ValueError, match=r"raise distill\.batch_size"):
            list(LengthBatches(lengths, 64, 0, world - 1, world))
        return
    shares = [list(LengthBatches(lengths, 64, 0, rank, world)) for rank in range(world)]
    for place, rows in enumerate(whole):
        joined = [row for share in shares for row in share[place]]
        assert sorted(joined) == sorted(rows.tolist())


def test_batches_of_like_length_hold_little_padding_and_change_every_epoch():
    lengths = np.random.default_rng(0).integers(4, 40, size=4000)
    batches = LengthBatches(lengths, 32, 0)
    first = batches.batches()

    def padding(some):
        return sum(len(rows) * lengths[rows].max() - lengths[rows].sum() for rows in some)

    at_random = np.split(np.random.default_rng(0).permutation(4000), 125)
    assert padding(first) < padding(at_random) / 4
    tokens = [lengths[rows].sum() for rows in first]
    assert max(tokens) < 1.2 * np.mean(tokens)
    assert [rows.tolist() for rows in first] == [rows.tolist() for rows in batches.batches()]
    batches.set_epoch(1)
    assert [rows.tolist() for rows in first] != [rows.tolist() for rows in batches.batches()]


def test_rows_are_written_and_read_in_any_order(tmp_path):
    rows = Rows.create(tmp_path / "rows.npy", (5, 2), np.float32)
    rows[np.array([3, 1])] = np.array([[3, 3], [1, 1]])
    again = Rows(tmp_path / "rows.npy")
    assert len(again) == 5
    assert again[np.array([1, 0, 3])].tolist() == [[1, 1], [0, 0], [3, 3]]
    assert again[2:4].tolist() == [[0, 0], [3, 3]]
    assert again[np.array([], dtype=np.int64)].shape == (0, 2)


def test_rows_that_are_not_there_are_refused(tmp_path):
    rows = Rows.create(tmp_path / "rows.npy", (5, 2), np.float32)
    with pytest.raises(IndexError, match=r"rows.npy has 5 rows, not 5 to 6"):
        rows[np.array([5])]
    with pytest.raises(IndexError, match=r"not -1 to 0"):
        rows[np.array([-1])] = np.zeros((1, 2))
    with pytest.raises(ValueError, match=r"written with shape \(1, 3\).* row has shape \(2,\)"):
        rows[np.array([0])] = np.zeros((1, 3))
    with rows.path.open("r+b") as stream:
        stream.truncate(rows.path.stat().st_size - 1)
    with pytest.raises(ValueError, match=r"ends before row 5 of 5"):
        rows[np.array([4])]
    np.save(tmp_path / "columns.npy", np.zeros((3, 2), order="F"))
    with pytest.raises(ValueError, match=r"columns.npy is stored by columns; save it in C order"):
        Rows(tmp_path / "columns.npy")


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.randoms())
def test_ragged_blocks_come_back_as_written(tmp_path_factory, sizes, random):
    folder = tmp_path_factory.mktemp("ragged")
    np.save(folder / "offsets.npy", np.concatenate([[0], np.cumsum(sizes)]))
    Rows.create(folder / "values.npy", (sum(sizes), 3), np.float16)
    store = Ragged(folder / "values.npy", folder / "offsets.npy")
    order = list(range(len(sizes)))
    random.shuffle(order)
    blocks = [np.full((sizes[row], 3), row, dtype=np.float16) for row in order]
    store[np.asarray(order)] = blocks
    for row, block in zip(order, store[np.asarray(order)], strict=True):
        assert block.shape == (sizes[row], 3)
        assert (block == row).all()
    assert store.lengths.tolist() == sizes


def test_padding_is_the_fill_up_to_the_longest():
    assert padded([np.array([1, 2]), np.array([3])], fill=7).tolist() == [[1, 2], [3, 7]]
