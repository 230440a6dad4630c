"""Files as people have them: rows are what the format says, and nothing is lost in silence."""

import csv
import io
import json
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimize.data import load as data
from optimize.data.faults import MOST_SHOWN
from optimize.data.separated import DataWarning, header_names, read_separated
from optimize.data.splits import DataError
from optimize.data.tables import READERS, Reading
from optimize.settings.data import DataSettings
from optimize.settings.load import SettingsError, parse

ROWS = [("cancel my plan", "a"), ("money back", "b"), ("where is it", "a")]
EVALUATED = (
    '{"text": "stop it", "label": "a", "split": "validation"}\n'
    '{"text": "pay me", "label": "b", "split": "test"}\n'
)


def table(path, form, **how):
    reading = Reading(("text", "label"), **how)
    rows = [(row, cells["text"], cells["label"]) for row, cells in READERS[form](path, reading)]
    reading.faults.refuse()
    return rows


def written(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e"])
@pytest.mark.parametrize("form", ["csv", "jsonl", "tsv"])
def test_only_a_line_feed_ends_a_row(tmp_path, form, character):
    text = f"one{character}two"
    content = {
        "csv": f'text,label\n"{text}",a\nx,b\n',
        "jsonl": f'{{"text": "{text}", "label": "a"}}\n{{"text": "x", "label": "b"}}\n',
        "tsv": f"text\tlabel\n{text}\ta\nx\tb\n",
    }[form]
    if form == "jsonl" and character < " ":
        content = json.dumps({"text": text, "label": "a"}) + '\n{"text": "x", "label": "b"}\n'
    rows = table(written(tmp_path, f"t.{form}", content), form)
    assert [cells for _, *cells in rows] == [[text, "a"], ["x", "b"]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('text,label\nx,a\n"y,b\nz,a\n', "row 3: a quote opens here and is never closed"),
        ('text,label\nx,a\ny,"b\n', "row 3: a quote opens here and is never closed"),
        ('text,label\n"x" y,a\nz,b\n', "row 2: .* must be doubled"),
        ('text,label\n"two\nlines",a\n"y,b\nz,a\n', r"row 3 \(line 4\): a quote opens here"),
    ],
)
def test_a_quote_that_is_not_closed_names_where_it_opens(tmp_path, content, words):
    with pytest.raises(DataError, match=words):
        table(written(tmp_path, "t.csv", content), "csv")


def test_two_stray_quotes_are_warned_of(tmp_path):
    content = 'label,text\na,x\na,"y\nb,z\na,w"\nb,v\n'
    with pytest.warns(DataWarning, match="row 3: a quoted text holds line breaks and lines that"):
        assert len(table(written(tmp_path, "t.csv", content), "csv")) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(table(written(tmp_path, "t.csv", content), "csv", quoting="none")) == 5


def test_a_text_of_several_lines_is_no_cause_for_warning(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = table(written(tmp_path, "t.csv", 'text,label\n"dear all,\nhello",a\nx,b\n'), "csv")
    assert [text for _, text, _ in rows] == ["dear all,\nhello", "x"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (['"stop" is what i said\ta', "x\tb"], ['"stop" is what i said', "x"]),
        (['"i want to end\ta', "x\tb", 'he said "no"\tb'], ['"i want to end', "x", 'he said "no"']),
        (['"stop"\ta', "x\tb"], ['"stop"', "x"]),  # whole, and of its own
        (['"stop"\ta', '"x"\tb'], ["stop", "x"]),  # all of them: the format's
        (['"say ""no"""\ta', "x\tb"], ['say "no"', "x"]),  # as pandas writes it
        (['"tab\there"\ta', "x\tb"], ["tab\there", "x"]),
    ],
)
def test_a_quote_in_lines_of_tabs_is_a_quote(tmp_path, lines, expected):
    path = written(tmp_path, "t.tsv", "text\tlabel\n" + "\n".join(lines) + "\r\n")
    assert [text for _, text, _ in table(path, "tsv")] == expected


def test_quoting_can_be_said(tmp_path):
    path = written(tmp_path, "t.tsv", 'text\tlabel\n"stop"\ta\nx\tb\n')
    assert table(path, "tsv", quoting="minimal")[0][1] == "stop"
    path = written(tmp_path, "t.csv", 'text,label\n"stop",a\nx,b\n')
    assert table(path, "csv", quoting="none")[0][1] == '"stop"'


TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r"), min_size=1)


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1), st.sampled_from(",;|"))
def test_what_the_csv_module_writes_is_read(tmp_path_factory, rows, separator):
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=separator)
    writer.writerows([("text", "label"), *rows])
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    reading = Reading(("text", "label"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        found = list(
            read_separated(path, stream.getvalue(), reading.columns, ",", "auto", reading.faults)
        )
    reading.faults.refuse()
    assert [(cells["text"], cells["label"]) for _, cells in found] == rows
    assert [row for row, _ in found] == list(range(2, len(rows) + 2))


@given(st.text(st.sampled_from('ab",\n\r\t')))
def test_no_file_gives_anything_but_rows_or_a_refusal(content):
    reading = Reading(("a",))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        try:
            rows = list(read_separated(
                io_path(), "a\n" + content, reading.columns, ",", "auto", reading.faults
            ))  # fmt: skip
            reading.faults.refuse()
        except DataError:
            return
    assert all(set(cells) == {"a"} for _, cells in rows)


def io_path():
    from pathlib import Path

    return Path("t.csv")


@pytest.mark.parametrize("separator", [";", "|", "\t"])
def test_another_separator_is_seen_in_the_header(tmp_path, separator):
    content = "text;label\nx, and y;a\nz;b\n".replace(";", separator)
    rows = table(written(tmp_path, "t.csv", content), "csv")
    assert [text for _, text, _ in rows] == ["x, and y", "z"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('"text of\nthe user",label\nx,a\n', ["text of\nthe user", "label"]),
        ('"a, b",label\nx,a\n', ["a, b", "label"]),
        ('"open,label\nx,a\n', ["open", "label"]),
        ("\n", []),
        ("", []),
    ],
)
def test_a_name_in_the_header_may_end_a_line(text, names):
    assert header_names(text, ",") == names


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_a_byte_order_mark_says_the_encoding(tmp_path, encoding):
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    content = mark + "text\tlabel\nnée 🙂\ta\n".encode(encoding)
    assert table(written(tmp_path, "t.tsv", content), "tsv") == [(2, "née 🙂", "a")]


def test_unnamed_trailing_columns_do_no_harm(tmp_path):
    content = "label,text,,,\na,x,,,\nb,y,,,\n"
    assert len(table(written(tmp_path, "t.csv", content), "csv")) == 2
    content = "label,text\na,x,,\nb,y\n"
    assert len(table(written(tmp_path, "t.csv", content), "csv")) == 2


def test_a_field_may_be_long(tmp_path):
    text = "x" * 300_000
    rows = table(written(tmp_path, "t.csv", f"text,label\n{text},a\n"), "csv")
    assert len(rows[0][1]) == 300_000


def test_json_array_and_json_lines_under_its_name(tmp_path):
    records = [{"text": text, "label": label} for text, label in ROWS]
    expected = [(n, *row) for n, row in enumerate(ROWS, start=1)]
    assert table(written(tmp_path, "a.json", json.dumps(records)), "json") == expected
    lines = "\n".join(map(json.dumps, records))
    assert table(written(tmp_path, "b.json", lines), "json") == expected


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"text": {"0": "x"}}', 'JSON object, not an array.*orient="records"'),
        ("5", "JSON int, not an array"),
        ("{", "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('["x"]', "record 1: a JSON object is needed"),
    ],
)
def test_other_json_is_refused_as_what_it_is(tmp_path, content, words):
    with pytest.raises(DataError, match=words):
        table(written(tmp_path, "a.json", content), "json")


def test_all_faults_are_told_at_once(tmp_path):
    lines = [json.dumps({"text": text, "label": label, "split": "train"}) for text, label in ROWS]
    good = {"text": "x", "label": "a", "split": "train"}
    changes = [
        {"text": 5}, {"text": ""}, {"text": "\ud800"}, {"label": None}, {"label": "\udfff"},
        {"label": ["a", "b"]}, {"label": 0.5}, {"split": ["train"]}, {"split": "dev"},
    ]  # fmt: skip
    bad = ["{", '{"text": "x", "split": "train"}', *(json.dumps(good | each) for each in changes)]
    path = written(tmp_path, "t.jsonl", "\n".join([*lines, *bad, EVALUATED]))
    with pytest.raises(DataError) as refused:
        data.load(DataSettings(source=str(path)))
    words = str(refused.value).split("\n")
    assert words[0] == f"{len(bad)} rows cannot be used:"
    for row in range(len(lines) + 1, len(lines) + len(bad) + 1):
        assert sum(f"row {row}" in line.split(":")[0] for line in words) == 1, row


def test_the_first_faults_are_shown_and_the_rest_counted(tmp_path):
    lines = "\n".join('{"text": "", "label": "a", "split": "train"}' for _ in range(500))
    path = written(tmp_path, "t.jsonl", lines + "\n" + EVALUATED)
    with pytest.raises(DataError) as refused:
        data.load(DataSettings(source=str(path)))
    words = str(refused.value).split("\n")
    assert len(words) == MOST_SHOWN + 2
    assert words[-1] == f"  and {500 - MOST_SHOWN} more"


@pytest.mark.parametrize("source", ["/dev/zero", "fifo", "folder.csv"])
def test_what_is_no_file_is_refused_at_once(tmp_path, source):
    import os

    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder.csv").mkdir()
    path = source if source.startswith("/") else str(tmp_path / source)
    with pytest.raises(DataError, match=r"cannot be read|has no train\.csv"):
        data.load(DataSettings(source=path, format="csv"))


def labelled(labels, tmp_path, form="jsonl"):
    rows = [{"text": f"text {n}", "label": label} for n, label in enumerate(labels)]
    path = tmp_path / f"t.{form}"
    if form == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)))
    else:
        path.write_text("text,label\n" + "\n".join(f"{r['text']},{r['label']}" for r in rows))
    settings = DataSettings(source=str(path), validation=0.2, test=0.2)
    return data.load(settings)


@pytest.mark.parametrize(
    "labels", [[0, 1] * 10, [0.0, 1.0] * 10, ["0", "1.0"] * 10, ["0.", 1] * 10]
)
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_whole_numbers_are_the_same_however_they_are_written(labels, tmp_path, form):
    assert labelled(labels, tmp_path, form).label_names == ("0", "1")


def test_names_stay_as_they_are(tmp_path):
    assert labelled(["1.0", "v2"] * 10, tmp_path).label_names == ("1.0", "v2")


def test_labels_in_several_spellings_are_warned_of_with_counts(tmp_path):
    with pytest.warns(data.LabelWarning, match="'refund' 10 times, 'Refund ' 5 times"):
        labelled(["refund", "refund", "Refund ", "other"] * 5, tmp_path)


def saved(tmp_path, labels, kind):
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["x", "y"])}
    )
    rows = {"text": [f"text {n}" for n in range(len(labels))], "label": labels}
    one = datasets.Dataset.from_dict(rows, features=features)
    if kind == "parquet":
        one.to_parquet(str(tmp_path / "t.parquet"))
        return DataSettings(source=str(tmp_path / "t.parquet"), validation=0.2, test=0.2)
    if kind == "one":
        one.save_to_disk(str(tmp_path / "saved"))
        return DataSettings(source=str(tmp_path / "saved"), validation=0.2, test=0.2)
    datasets.DatasetDict({"train": one}).save_to_disk(str(tmp_path / "saved"))
    return DataSettings(source=str(tmp_path / "saved"), validation=0.2, test=0.2)


@pytest.mark.parametrize("kind", ["parquet", "one", "splits"])
def test_class_label_names_are_read(tmp_path, kind):
    assert data.load(saved(tmp_path, [0, 1] * 10, kind)).label_names == ("x", "y")


@pytest.mark.parametrize("kind", ["parquet", "one", "splits"])
@pytest.mark.parametrize("bad", [None, -1])
def test_a_class_label_that_is_none_is_refused_by_row(tmp_path, kind, bad):
    with pytest.raises(DataError, match=f"row 3, column 'label': label {bad} is none of the 2"):
        data.load(saved(tmp_path, [0, 1, bad, *[0, 1] * 10], kind))


def test_one_saved_dataset_is_refused_as_that(tmp_path):
    settings = saved(tmp_path, [0, 1] * 10, "one")
    whole = DataSettings(source=settings.source)
    with pytest.raises(DataError, match=r"one saved Dataset without splits.*data\.test = 0\.2"):
        data.load(whole)


def test_no_split_column_says_how_to_split(tmp_path):
    path = written(tmp_path, "t.csv", "text,label\nx,a\n")
    with pytest.raises(DataError, match=r"no column 'split'.*data\.validation = 0\.1"):
        data.load(DataSettings(source=str(path)))


@pytest.mark.parametrize("change", [{"validation": "test"}, {"train": "test"}, {"test": "train"}])
def test_two_splits_of_one_name_are_refused(change):
    with pytest.raises(SettingsError, match="two splits are the same rows"):
        parse({"data": change}, "test")


def test_two_splits_of_one_file_are_refused(tmp_path):
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.csv").write_text("text,label\nx,a\ny,b\n")
    with pytest.raises(DataError, match="is the file of validation and of test"):
        data.load(DataSettings(source=str(tmp_path), validation="test.csv"))


def test_validation_and_test_that_share_texts_are_warned_of(tmp_path):
    for split, text in (("train", "x"), ("validation", "same"), ("test", "same")):
        (tmp_path / f"{split}.csv").write_text(f"text,label\n{text} one,a\n{text} two,b\n")
    with pytest.warns(data.LeakageWarning, match="are in validation too"):
        data.load(DataSettings(source=str(tmp_path)))


@pytest.mark.parametrize("label", ["oos", "A"])
def test_an_out_of_scope_label_that_no_text_has(tmp_path, label):
    path = written(tmp_path, "t.jsonl", "\n".join(
        json.dumps({"text": f"{split} {label}", "label": label, "split": split})
        for split in ("train", "validation", "test") for label in "ab"
    ))  # fmt: skip
    with pytest.raises(DataError, match=f"out_of_scope_label {label!r} is the label of no"):
        data.load(DataSettings(source=str(path), out_of_scope_label=label))
