"""Every format gives the same rows."""

import json

import pytest

from optimize.data import load as data
from optimize.data.splits import DataError
from optimize.settings.data import DataSettings

ROWS = {
    "train": [("where is it, then", "track"), ("money back", "refund"), ("née 🙂", "track")],
    "validation": [("find it", "track")],
    "test": [("pay me", "refund")],
}


def assert_same(splits):
    for split, rows in ROWS.items():
        found = [
            (text, splits.label_names[label])
            for text, label in zip(splits[split].texts, splits[split].labels, strict=True)
        ]
        assert found == rows


def separated(rows, delimiter):
    lines = [delimiter.join(("label", "text"))]
    lines += [delimiter.join((label, f'"{text}"')) for text, label in rows]
    return "\n".join(lines) + "\n\n"


def json_lines(rows):
    return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        ("csv", lambda rows: separated(rows, ",")),
        ("tsv", lambda rows: separated(rows, "\t")),
        ("jsonl", json_lines),
    ],
)
def test_text_files(tmp_path, suffix, write):
    for split, rows in ROWS.items():
        # Excel's "CSV UTF-8" begins with a byte-order mark.
        (tmp_path / f"{split}.{suffix}").write_text(write(rows), encoding="utf-8-sig")
    assert_same(data.load(DataSettings(source=str(tmp_path))))


def test_parquet(tmp_path):
    import pyarrow
    import pyarrow.parquet

    for split, rows in ROWS.items():
        table = pyarrow.table({"text": [t for t, _ in rows], "label": [n for _, n in rows]})
        pyarrow.parquet.write_table(table, tmp_path / f"{split}.parquet")
    assert_same(data.load(DataSettings(source=str(tmp_path))))


@pytest.mark.parametrize("beside", ["labels.csv", "dataset_infos.json", "a.parquet"])
@pytest.mark.parametrize("train", ["", "train.jsonl"])
def test_what_lies_beside_the_splits_is_not_their_format(tmp_path, beside, train):
    for split in ("train", "validation", "test"):
        rows = [{"text": f"{split} {n}", "label": "ab"[n % 2]} for n in range(4)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / beside).write_text("id,name\n1,a\n")
    table = {"source": str(tmp_path)} | ({"train": train} if train else {})
    assert len(data.load(DataSettings(**table)).train) == 4


def test_broken_parquet_is_refused(tmp_path):
    for split in ROWS:
        (tmp_path / f"{split}.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(DataError, match=r"train\.parquet is not Parquet"):
        data.load(DataSettings(source=str(tmp_path)))


def test_one_file_with_a_split_column(tmp_path):
    lines = [
        json.dumps({"part": f"my-{split}", "utterance": text, "intent": label})
        for split, rows in ROWS.items()
        for text, label in rows
    ]
    (tmp_path / "all.jsonl").write_text("\n".join(lines), encoding="utf-8")
    settings = DataSettings(
        source=str(tmp_path / "all.jsonl"),
        text_column="utterance",
        label_column="intent",
        split_column="part",
        train="my-train",
        validation="my-validation",
        test="my-test",
    )
    assert_same(data.load(settings))
    with pytest.raises(DataError, match="split 'my-train' is not one of train, validation, test"):
        data.load(
            settings.model_copy(
                update={"train": "train", "validation": "validation"} | {"test": "test"}
            )
        )


def as_datasets(label_names=None):
    import datasets

    def table(rows):
        features = None
        labels = [label for _, label in rows]
        if label_names:
            features = datasets.Features(
                {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=label_names)}
            )
            labels = [label_names.index(label) for label in labels]
        content = {"text": [text for text, _ in rows], "label": labels}
        return datasets.Dataset.from_dict(content, features=features)

    return datasets.DatasetDict({split: table(rows) for split, rows in ROWS.items()})


@pytest.mark.parametrize("label_names", [None, ["track", "refund"]])
def test_saved_datasets_folder(tmp_path, label_names):
    as_datasets(label_names).save_to_disk(str(tmp_path / "saved"))
    assert_same(data.load(DataSettings(source=str(tmp_path / "saved"))))


def test_hub_id_goes_through_load_dataset(monkeypatch):
    import datasets

    asked = []

    def load_dataset(*names, **options):
        asked.append((names, options))
        return as_datasets(["track", "refund"])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert_same(data.load(DataSettings(source="owner/name", config="plus", revision="abc")))
    assert asked == [(("owner/name", "plus"), {"revision": "abc"})]


def test_hub_that_cannot_be_reached_names_the_set(monkeypatch):
    import datasets

    def fail(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"'owner/name' .*no route.*or give a local file"):
        data.load(DataSettings(source="owner/name"))


def test_hub_split_that_is_not_there_is_refused(monkeypatch):
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: as_datasets())
    with pytest.raises(DataError, match=r"no split 'dev' \(its splits: train, validation, test\)"):
        data.load(DataSettings(source="owner/name", validation="dev"))


def clinc(**change):
    pairs = {key: [list(row) for row in rows] for key, rows in ROWS.items()}
    pairs["val"] = pairs.pop("validation")
    return pairs | {"oos_train": [["what is love", "oos"]], "oos_val": [], "oos_test": []} | change


def test_clinc_layout_appends_out_of_scope(tmp_path):
    (tmp_path / "data.json").write_text(json.dumps(clinc()), encoding="utf-8")
    splits = data.load(DataSettings(source=str(tmp_path / "data.json")))
    assert splits.label_names == ("oos", "refund", "track")
    assert splits.train.texts[-1] == "what is love"
    assert len(splits.train) == 4


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"train": []}, "no key 'val'"),
        (clinc(test=[["a"]]), r"test, row 1: \[text, label\] is needed"),
    ],
)
def test_other_json_is_refused(tmp_path, content, words):
    (tmp_path / "data.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=words):
        data.load(DataSettings(source=str(tmp_path / "data.json")))


def test_format_that_cannot_be_told_is_refused(tmp_path):
    (tmp_path / "data.bin").write_bytes(b"x")
    with pytest.raises(DataError, match=r"set data\.format to one of csv"):
        data.load(DataSettings(source=str(tmp_path / "data.bin")))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is not a saved `datasets` folder"):
        data.load(DataSettings(source=str(tmp_path / "empty")))


def test_digest_follows_the_content_and_not_the_format(tmp_path):
    for split, rows in ROWS.items():
        (tmp_path / f"{split}.csv").write_text(separated(rows, ","), encoding="utf-8")
    first = data.load(DataSettings(source=str(tmp_path))).key_part
    (tmp_path / "json").mkdir()
    for split, rows in ROWS.items():
        (tmp_path / "json" / f"{split}.jsonl").write_text(json_lines(rows), encoding="utf-8")
    assert data.load(DataSettings(source=str(tmp_path / "json"))).key_part == first
    changed = separated([("pay me", "track")], ",")
    (tmp_path / "test.csv").write_text(changed, encoding="utf-8")
    assert data.load(DataSettings(source=str(tmp_path))).key_part != first


def split_object(path, **more):
    rows = {
        split: [{"text": f"{split} {label}", "label": label} for label in "ab"]
        for split in ("train", "validation", "test")
    }
    path.write_text(json.dumps(rows | more), encoding="utf-8")
    return path


def test_a_json_object_of_splits_is_read(tmp_path):
    splits = data.load(DataSettings(source=str(split_object(tmp_path / "d.json"))))
    assert splits.label_names == ("a", "b")
    assert splits.test.texts[0] == "test a"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"test": {"text": "x"}}, r"has no array 'test' \(its keys: train, validation, test\)"),
        ({"test": [{"text": "x"}]}, "d.json, test, record 1 has no column 'label'"),
        ({"test": [3]}, "d.json, test, record 1: a JSON object is needed"),
    ],
)
def test_a_split_of_an_object_that_is_no_table_is_refused(tmp_path, more, words):
    with pytest.raises(DataError, match=words):
        data.load(DataSettings(source=str(split_object(tmp_path / "d.json", **more))))
