"""Several labels a text, and pairs of texts, as data files hold them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimize.bundle.texts import PAIR_MARK, joined
from optimize.data.augment import augmented
from optimize.data.columns import guess
from optimize.data.load import LeakageWarning, load
from optimize.data.splits import DataError
from optimize.data.summary import summary
from optimize.settings.data import DataSettings

SEVERAL = {"problem_type": "multi_label_classification"}
PAIRS = {"text_column": "first", "text_pair_column": "second"}
ROWS = [
    ("train", "a b", ["x", "y"]), ("train", "c", []), ("train", "d", ["y"]), ("train", "e", ["x"]),
    ("validation", "f", ["y", "x", "y"]), ("test", "g", ["x"]),
]  # fmt: skip


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def several(path, rows=ROWS):
    named = [{"split": split, "text": text, "label": label} for split, text, label in rows]
    return lines(path, named)


def read(path, **settings):
    return load(DataSettings(source=str(path), **settings))


def test_lists_of_labels_are_read(tmp_path):
    splits = read(several(tmp_path / "d.jsonl"), **SEVERAL)
    assert splits.label_names == ("x", "y")
    assert splits.train.labels.tolist() == [[1, 1], [0, 0], [0, 1], [1, 0]]
    assert splits.names_of("validation") == [("x", "y")]
    assert splits.names_of("train")[1] == ()
    assert splits.training.multi_label


def test_parquet_and_datasets_hold_lists_of_class_labels(tmp_path):
    datasets = pytest.importorskip("datasets", reason="the extra `build` is not installed")
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.Sequence(datasets.ClassLabel(names=["x", "y"])),
        }
    )
    made = {
        split: datasets.Dataset.from_dict(
            {
                "text": [text for own, text, _ in ROWS if own == split],
                "label": [label for own, _, label in ROWS if own == split],
            },
            features=features,
        )
        for split in ("train", "validation", "test")
    }
    datasets.DatasetDict(made).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "files").mkdir()
    for split, table in made.items():
        table.to_parquet(str(tmp_path / "files" / f"{split}.parquet"))
    for source in ("saved", "files"):
        splits = read(tmp_path / source, **SEVERAL)
        assert splits.names_of("train") == [("x", "y"), (), ("y",), ("x",)], source


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("x", "label 'x' is str; .* a list of labels is needed"),
        (None, "NoneType; .* a list of labels"),
        (["x", None], "label None is NoneType"),
        (["x", ["y"]], "label \\['y'\\] is a list"),
        ([0.5], "is not whole"),
        (["x\ud800"], "half of a surrogate pair"),
    ],
)
def test_what_is_no_list_of_labels_is_refused_by_row(tmp_path, label, words):
    path = several(tmp_path / "d.jsonl", [*ROWS, ("train", "h", label)])
    with pytest.raises(DataError, match=f"row 7, column 'label': .*{words}"):
        read(path, **SEVERAL)


def test_a_label_that_training_lacks_is_named(tmp_path):
    path = several(tmp_path / "d.jsonl", [*ROWS, ("test", "h", ["x", "z"])])
    with pytest.raises(DataError, match="label 'z' is not among the 2 labels"):
        read(path, **SEVERAL)


def test_lists_without_the_setting_are_refused_with_it(tmp_path):
    with pytest.raises(DataError, match=r'set data\.problem_type = "multi_label_classification"'):
        read(several(tmp_path / "d.jsonl"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"problem_type": "regression"}, "regression, a number a text"),
        ({**SEVERAL, "out_of_scope_label": "oos"}, "give it an empty list"),
        ({"text_pair_column": "text"}, "is the column of something else too"),
        ({**SEVERAL, "format": "clinc"}, "holds single texts with one label each"),
    ],
)
def test_settings_that_do_not_fit(settings, words):
    with pytest.raises(ValueError, match=words):
        DataSettings(**settings)


def test_whole_numbers_are_written_alike_in_lists_too(tmp_path):
    rows = [("train", "a", [1, 2.0]), ("train", "b", ["2"]), ("validation", "c", [1.0]), ("test", "d", [2])]  # fmt: skip  # noqa: E501
    splits = read(several(tmp_path / "d.jsonl", rows), **SEVERAL)
    assert splits.label_names == ("1", "2")


def test_shares_and_order_keep_the_lists(tmp_path):
    rows = [{"text": f"t {n}", "label": [["x"], ["y"], ["y", "x"], []][n % 4]} for n in range(80)]
    splits = read(lines(tmp_path / "d.jsonl", rows), **SEVERAL, validation=0.25, test=0.25)
    assert [len(splits[name]) for name in ("train", "validation", "test")] == [40, 20, 20]
    for name in ("validation", "test"):
        assert all(8 <= count <= 12 for count in splits[name].labels.sum(axis=0))
    turned = splits.ordered_as(("y", "x"), "the teacher")
    assert turned.train.labels[:, ::-1].tolist() == splits.train.labels.tolist()
    assert sorted(map(sorted, turned.names_of("test"))) == sorted(
        map(sorted, splits.names_of("test"))
    )


def test_the_summary_counts_labels_and_texts_without(tmp_path):
    told = "\n".join(summary(read(several(tmp_path / "d.jsonl"), **SEVERAL)))
    assert "(none)" in told
    counts = {line.split()[0]: line.split()[1:] for line in told.splitlines()[:4]}
    assert counts["x"] == ["2", "1", "1"]
    assert counts["(none)"] == ["1", "0", "0"]


def pair_rows(second="b"):
    return [
        {"split": split, "first": f"a {n}", "second": second, "label": label}
        for n, (split, label) in enumerate(
            [("train", "x"), ("train", "y"), ("validation", "x"), ("test", "y")]
        )
    ]


def test_pairs_are_read_as_one_string_with_a_mark(tmp_path):
    splits = read(lines(tmp_path / "d.jsonl", pair_rows()), **PAIRS)
    assert splits.pairs
    assert splits.train.texts[0] == joined("a 0", "b") == f"a 0{PAIR_MARK}b"


@pytest.mark.parametrize("value", ["", None, 3, f"b{PAIR_MARK}c", "b\udc00"])
def test_a_second_text_that_is_none_is_refused(tmp_path, value):
    rows = pair_rows()
    rows[1]["second"] = value
    with pytest.raises(DataError, match="row 2, column 'second'"):
        read(lines(tmp_path / "d.jsonl", rows), **PAIRS)


def test_a_pair_column_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="no column 'third'"):
        read(
            lines(tmp_path / "d.jsonl", pair_rows()), text_column="first", text_pair_column="third"
        )


def test_the_same_first_text_is_no_leak_and_the_same_pair_is(tmp_path, recwarn):
    rows = [{**row, "first": "same", "second": str(n)} for n, row in enumerate(pair_rows())]
    read(lines(tmp_path / "d.jsonl", rows), **PAIRS)
    assert not [each for each in recwarn if each.category is LeakageWarning]
    alike = [
        {**row, "second": "Other" if number < 2 else "other"} for number, row in enumerate(rows)
    ]
    with pytest.warns(LeakageWarning, match="same ‖ other"):
        read(lines(tmp_path / "e.jsonl", alike), **PAIRS)


def test_data_of_pairs_has_another_digest(tmp_path):
    path = tmp_path / "d.jsonl"
    lines(path, [{**row, "text": joined(row["first"], row["second"])} for row in pair_rows()])
    assert read(path, **PAIRS).train.texts == read(path).train.texts
    assert read(path, **PAIRS).key_part != read(path).key_part


@given(st.lists(st.sampled_from(["a b c", "d e f g", "h i"]), min_size=2, max_size=6))
def test_variations_of_pairs_are_pairs(texts):
    pairs = [joined(text, f"{text} z") for text in texts]
    for made in augmented(pairs, [0] * len(pairs), 8, seed=1):
        assert made.count(PAIR_MARK) == 1
        assert all(part.strip() for part in made.split(PAIR_MARK))


def test_columns_are_guessed():
    table = {"premise": ["a b"], "hypothesis": ["c"], "label": ["x"]}
    table["label"], table["premise"], table["hypothesis"] = ["x", "x", "y"], ["a"] * 3, ["b"] * 3
    found = guess(table, "d")
    assert (found.text, found.pair, found.label) == ("premise", "hypothesis", "label")
    lists = guess({"text": ["a", "b"], "labels": [["x"], []]}, "d")
    assert (lists.label, lists.several, lists.pair) == ("labels", True, None)
