"""The shared small inputs that failed once, each with what it must give now."""

import os
import re
from pathlib import Path

import pytest

from optimize.cli import main

CASES = Path(__file__).parents[2] / "shared" / "cases"
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(not CASES.is_dir(), reason=f"{CASES} is not there: it is kept apart"),
]

FIFTEEN = r"\A0\n.*data: 15 train, 6 validation, 3 test texts; 3 labels"
NEVER_CLOSED = "a quote opens here and is never closed"
CHECKED = {
    "01_unclosed_quote_eof": rf"\A1\n.*train\.csv, row 5: {NEVER_CLOSED}",
    "01b_unclosed_late": rf"\A1\n.*train\.csv, row 13: {NEVER_CLOSED}",
    "01c_two_stray_quotes": r"\A0\n.*row 3: a quoted text holds line breaks and lines that look",
    "02_tsv_quotes": FIFTEEN,
    "02b_tsv_quotes_label_last": FIFTEEN,
    "02c_tsv_quoted_word_first": FIFTEEN,
    "03_csv_ls": FIFTEEN,
    "03_csv_vt": FIFTEEN,
    "05_utf16_tsv": FIFTEEN,
    "06_semicolon": FIFTEEN,
    "08_kaggle_unnamed": FIFTEEN,
    "09_no_split": r"\A1\n.*data\.validation = 0\.1 and data\.test = 0\.2",
    "10_json_array": FIFTEEN,
    "11_label_space": r"\A0\n.*'cancel' 7 times, 'cancel ' 1 times.*'refund' 7 times, 'Refund' 1",
    "12_conflict": r"\A0\n.*several labels.*'cancel' 3 times, 'refund' 1 times",
    "21_bom_recipe": FIFTEEN,
    "21b_latin1_recipe": r"\A1\n.*recipe\.toml, line 1: byte 0xe9 is not UTF-8",
    "32_classlabel_none": r"\A1\n.*split 'test', row 1, column 'label': label None is none of",
    "34_single_dataset": r"\A1\n.*one saved Dataset without splits",
    "35_classlabel_parquet": FIFTEEN + r".*\bcancel +5",
    "b02_headless": r"\A1\n.*said to be fine-tuned.*2 of its weights are missing",
    "b04_labels_int": FIFTEEN,
    "b05_labels_from1": r"\A1\n.*ids 1, 2, 3, but logits are counted from 0",
    "b07_multilabel": r"\A1\n.*multi_label_classification",
    "b11_shortpos": r"\A1\n.*max_length = 64, but .* has 32 positions",
    "b11b_roberta_514": r"\A1\n.*max_length = 130, but .* of which 128 are for tokens",
    "b12_addedtokens": r"\A1\n.*token ids up to 258, its model 257 rows",
    "b15_surrogate": r"\A1\n.*row 4, column 'text': .*U\+D83D",
    "b16_line_separator_test": FIFTEEN,
    "b2_albert": r'\A1\n.*set student\.layers = "all"',
    "b2_distilbert_berttok": FIFTEEN,
    "b30_checkpoint_typo": r"\A1\n.*no such folder \(closest: \.\./models/bert\)",
    "b32_oos_typo": r"\A1\n.*'oos' is the label of no training text",
}
FILES = {
    "sur.jsonl": r"\A1\n.*row 97, column 'text'.*half of a surrogate pair \(U\+D800\)",
    "labelsur.jsonl": r"\A1\n.*column 'label'.*half of a surrogate pair \(U\+D800\)",
    "splitlist.jsonl": r"\A1\n.*row 97, column 'split': split \['test'\] is not one of",
    "clinc.json": r"\A1\n.*key 'train': a list of \[text, label\] is needed, not 5",
    "clinc2.json": r"\A1\n.*key 'train': a list of \[text, label\] is needed, not null",
    "clinc3.json": r"\A1\n.*key 'oos_train': a list of \[text, label\] is needed, not 3",
}


def outcome(capsys, *argv):
    """Exit code, and all that was printed."""
    code = main(argv)
    printed = capsys.readouterr()
    return f"{code}\n{printed.err}{printed.out}"


def matches(words, found):
    assert re.search(words, found, re.DOTALL), found


def test_every_case_is_here():
    there = {path.parent.name for path in CASES.glob("*/recipe.toml")}
    assert there == set(CHECKED)


@pytest.mark.parametrize("case", CHECKED)
def test_check(case, capsys, monkeypatch):
    monkeypatch.chdir(CASES / case)
    matches(CHECKED[case], outcome(capsys, "check", "--recipe", "recipe.toml"))


@pytest.mark.parametrize("file", FILES)
def test_data(file, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = f"data.source={os.fspath(CASES / 'data' / file)}"
    matches(FILES[file], outcome(capsys, "check", "--recipe", "sample", "--set", source))


@pytest.mark.parametrize("command", ["report", "compare"])
@pytest.mark.parametrize("report", sorted(path.name for path in CASES.glob("reports/*.json")))
def test_reports_that_contradict_themselves(report, command, capsys):
    path = str(CASES / "reports" / report)
    found = outcome(capsys, command, *[path] * (2 if command == "compare" else 1))
    matches(rf"\A1\n.*{re.escape(report)} contradicts itself", found)


@pytest.mark.parametrize(
    ("case", "change"),
    [
        ("b16_line_separator_test", "name='x'"),
        ("b2_distilbert_berttok", "name='x'"),
        ("b2_albert", 'student.layers="all"'),
    ],
)
def test_build(case, change, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(CASES / case)
    out = tmp_path / "kit"
    argv = ["build", "--recipe", "recipe.toml", "--out", str(out), "--set", change]
    found = outcome(capsys, *argv)
    matches(r"\A0\n.*bundle: ", found)
    from optimize.judge.kit import read_kit

    assert len(read_kit(out).examples("test").texts) == 3
