"""A first recipe for the two commonest starting points, and what it was made of."""

import csv
import json

import pytest

from conftest import tiny_rows
from optimize.cli import main
from optimize.data.columns import guess, table_of
from optimize.data.form import form_of
from optimize.data.splits import DataError
from optimize.judge.statistics.proportions import examples_without_disagreement
from optimize.settings import load

FP32 = "accuracy-vs-fp32"


def write(path, rows, header=("text", "label")):
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


@pytest.fixture
def one_file(tmp_path):
    return write(tmp_path / "all.csv", tiny_rows(120), ("utterance", "intent"))


@pytest.fixture
def train_and_test(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "training.csv", tiny_rows(90))
    write(folder / "test.csv", tiny_rows(30, 90))
    return folder


def started(capsys, tmp_path, *argv):
    out = tmp_path / "first.toml"
    assert main(["init", *map(str, argv), "--out", str(out)]) == 0, capsys.readouterr().err
    settings, _ = load(str(out))
    return settings, capsys.readouterr().out


def test_one_file_without_splits(one_file, tiny_backbone, tmp_path, capsys):
    settings, told = started(capsys, tmp_path, one_file, tiny_backbone)
    data = settings.data
    assert (data.text_column, data.label_column) == ("utterance", "intent")
    assert data.shares == {"validation": 0.1, "test": 0.2}
    assert settings.teacher.checkpoint == str(tiny_backbone)
    assert settings.teacher.max_length == 16
    assert settings.student.layers == 2  # the base recipe's three are not there
    assert settings.distill.augment == 32
    assert "variations of each text" in told
    assert main(["check", "--recipe", str(tmp_path / "first.toml")]) == 0


def test_a_folder_of_train_and_test(train_and_test, tiny_backbone, tmp_path, capsys):
    settings, _ = started(capsys, tmp_path, train_and_test, tiny_backbone)
    assert settings.data.named_splits == {"training.csv": "train", "test.csv": "test"}
    assert settings.data.shares == {"validation": 0.1}
    assert main(["check", "--recipe", str(tmp_path / "first.toml")]) == 0


def test_a_file_sorted_by_split_keeps_its_splits(tmp_path):
    """As most are: what only the last rows say was not seen, and test rows were trained on."""
    rows = [("train", f"text number {n}", f"label {n % 3}") for n in range(6000)]
    rows += [("test", f"other text {n}", f"label {n % 3}") for n in range(30)]
    path = tmp_path / "sorted.csv"
    path.write_text("split,text,label\n" + "".join(f"{','.join(row)}\n" for row in rows))
    columns = guess(table_of(path, "csv"), path.name)
    assert columns.split == "split"
    assert columns.splits == {"train": "train", "test": "test"}


def test_splits_by_a_column_and_a_label_out_of_scope(tiny_backbone, tmp_path, capsys):
    rows = [{"q": text, "class": "oos" if n % 5 == 0 else label, "fold": fold}
            for n, (text, label) in enumerate(tiny_rows(60))
            for fold in (("train", "dev", "test")[(n // 3) % 3],)]  # fmt: skip
    path = tmp_path / "all.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    settings, _ = started(capsys, tmp_path, path, tiny_backbone)
    data = settings.data
    assert (data.text_column, data.label_column, data.split_column) == ("q", "class", "fold")
    assert (data.train, data.validation, data.test) == ("train", "dev", "test")
    assert data.out_of_scope_label == "oos"


def test_minutes_bound_the_variations(one_file, tiny_backbone, tmp_path, capsys):
    settings, _ = started(capsys, tmp_path, one_file, tiny_backbone, "--minutes", "0")
    assert settings.distill.augment == 0


def test_nothing_is_written_over(one_file, tmp_path, capsys):
    out = tmp_path / "mine.toml"
    out.write_text("mine")
    assert main(["init", str(one_file), "--out", str(out)]) == 1
    assert out.read_text() == "mine"


@pytest.mark.parametrize(
    ("table", "text", "label"),
    [
        ({"a": ["x", "y", "x", "y"], "b": ["long one", "long two", "more", "words"]}, "b", "a"),
        ({"v1": ["ham", "spam"] * 3, "v2": [f"text {n}" for n in range(6)]}, "v2", "v1"),
        ({"id": list(range(6)), "text": ["t"] * 6, "label": [0, 1] * 3}, "text", "label"),
        ({"Intent": ["a", "b"] * 3, "Text": [f"t {n}" for n in range(6)]}, "Text", "Intent"),
    ],
)
def test_columns_are_told_by_names_and_values(table, text, label):
    found = guess(table, "t.csv")
    assert (found.text, found.label) == (text, label)


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        (
            "split",
            ["train", "tset", "test"],
            r"'split' .* values that name none: 'tset' \(4 rows\)",
        ),
        ("Set", ["train", "dev", "test", "spare"], r"'spare' \(4 rows\)"),
        ("partition", ["train", "training", "test"], "several values for one split: 'train'"),
        ("split", ["train", "", "test"], r"'' \(4 rows\)"),
    ],
)
def test_a_slip_in_the_splits_is_refused(column, values, told):
    """Shares of all rows would be taken, and texts that are for testing learnt."""
    table = {"text": [f"t {n}" for n in range(4 * len(values))]}
    table["label"] = ["a", "b"] * (2 * len(values))
    with pytest.raises(DataError, match=told):
        guess({**table, column: values * 4}, "t.csv")
    # Another column may hold such words among its own.
    assert guess({**table, "vehicle": ["train", "bus"] * (2 * len(values))}, "t.csv").split is None


def test_no_texts_no_guess():
    with pytest.raises(DataError, match=r"looks like texts; write data\.text_column"):
        guess({"a": [1, 2, 3, 4], "b": [1, 1, 2, 2]}, "t.csv")


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("nowhere", None, "nowhere does not exist"),
        ("data.txt", "text,label\na,b\n", "let it end in .csv"),
        ("data.json", '{"text": ["a"], "label": ["b"]}', "a list of records is needed"),
        ("data.json", '{"train": [{"text": "a"}]}', "is a JSON object of splits"),
    ],
)
def test_what_no_recipe_can_be_made_of_is_told_as_what_it_is(name, content, told, tmp_path, capsys):
    if content is not None:
        (tmp_path / name).write_text(content)
    assert main(["init", str(tmp_path / name), "--out", str(tmp_path / "r.toml")]) == 1
    assert told in capsys.readouterr().err


def test_a_name_in_capitals_is_read(tmp_path):
    assert form_of(write(tmp_path / "DATA.CSV", tiny_rows(3))) == "csv"


def test_a_place_that_cannot_be_written_is_told_before_the_work(one_file, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "r.toml"
    assert main(["init", str(one_file), "--out", str(out)]) == 1
    assert f"{out} cannot be written" in capsys.readouterr().err
    assert main(["build", "--recipe", "sample", "--out", str(tmp_path / "file" / "kit")]) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("minutes", ["nan", "-3", "inf", "x"])
def test_minutes_are_a_number(minutes, one_file, capsys):
    with pytest.raises(SystemExit):
        main(["init", str(one_file), "--minutes", minutes])
    assert f"{minutes} is no number of minutes of 0 or more" in capsys.readouterr().err


@pytest.mark.parametrize("rows", [60, 180])
def test_few_texts_get_margins_that_they_can_decide(rows, tiny_backbone, tmp_path, capsys):
    few = write(tmp_path / "few.csv", tiny_rows(rows), ("text", "label"))
    settings, _ = started(capsys, tmp_path, few, tiny_backbone)
    tests = rows // 5
    margins = [settings.gates[name].limit(None, "") for name in ("accuracy-vs-teacher", FP32)]
    assert margins[0] >= margins[1] > 1.0
    assert all(examples_without_disagreement(margin / 100) <= tests for margin in margins)
    assert main(["check", "--recipe", str(tmp_path / "first.toml")]) == 0


def test_a_margin_that_no_text_decides_is_refused_before_anything_trains(
    one_file, tiny_backbone, tmp_path, capsys
):
    started(capsys, tmp_path, one_file, tiny_backbone)
    recipe = ["--recipe", str(tmp_path / "first.toml")]
    recipe += ["--set", "gates.accuracy-vs-teacher.max_drop_pp=0.01"]
    for command, code in (("check", 0), ("run", 1)):
        assert main([command, *recipe]) == code
        told = "".join(capsys.readouterr())
        assert "needs 29956 different texts even if no answer differs" in told
        assert 'judge.drop_gates = ["accuracy-vs-teacher"]' in told
        assert "teacher: building" not in told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "data.csv is empty"),
        ("text,label\n", "has a header, text, label, and no rows below it"),
        ("text,label,\n" + "one,a\ntwo,b\n" * 60, "120 rows cannot be used"),
    ],
)
def test_a_file_without_rows_is_told_as_such(content, told, tmp_path, capsys):
    path = tmp_path / "data.csv"
    path.write_text(content)
    assert main(["init", str(path), "--out", str(tmp_path / "r.toml")]) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("header", "end"),
    [('"my, text","the ""label"""', "\n"), ("text,label", "\r"), ("text,label", "\r\n")],
)
def test_headers_and_lines_as_programs_write_them(header, end, tiny_backbone, tmp_path, capsys):
    """Quoted names, which may hold the separator; and lines as the Macintosh once ended them."""
    path = tmp_path / "data.csv"
    rows = [f'"{text}, please",{label}' for text, label in tiny_rows(120)]
    path.write_bytes(end.join([header, *rows, ""]).encode())
    settings, _ = started(capsys, tmp_path, path, tiny_backbone)
    assert settings.data.text_column in ("my, text", "text")
    assert settings.data.label_column in ('the "label"', "label")
    assert main(["check", "--recipe", str(tmp_path / "first.toml")]) == 0
