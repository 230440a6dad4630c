"""Every refusal of the data stage, read as its user reads it."""

import json

import pytest

from optimize.data import load as data
from optimize.data import texts as text_rules
from optimize.data.load import LeakageWarning, warn_of_judged_texts
from optimize.data.splits import DataError
from optimize.data.unlabelled import OwnTexts
from optimize.settings.data import DataSettings

GOOD = "text,label\nwhere is it,track\nmoney back,refund\n"


def folder(tmp_path, train=GOOD, validation=GOOD, test=GOOD, suffix="csv"):
    for name, content in (("train", train), ("validation", validation), ("test", test)):
        encoded = content if isinstance(content, bytes) else content.encode()
        (tmp_path / f"{name}.{suffix}").write_bytes(encoded)
    return DataSettings(source=str(tmp_path), leakage_warn_share=1.0)


REFUSALS = {
    "empty file": ({"train": ""}, ["train.csv is empty", "header row with text, label"]),
    "empty split": ({"test": "text,label\n"}, ["test.csv", "'test' is empty"]),
    "missing column": (
        {"train": "text,intent\na,b\n"},
        ["train.csv has no column 'label'", "text, intent", "data.label_column"],
    ),
    "duplicate header": (
        {"train": "text,text,label\na,b,c\n"},
        ["train.csv, row 1", "'text' is there 2 times", "rename or delete"],
    ),
    "cells": ({"train": GOOD + "a,b,c\n"}, ["train.csv, row 4", "3 cells, the header has 2"]),
    "empty text": (
        {"validation": GOOD + "  ,refund\n"},
        ["validation.csv, row 4", "column 'text'", "the text is empty", "delete the row"],
    ),
    "unknown label": (
        {"test": GOOD + "hello,refnd\n"},
        ["test.csv, row 4", "'refnd'", "2 labels", "closest: 'refund'", "Correct it"],
    ),
    "one class": (
        {"train": "text,label\na,refund\nb,refund\n"},
        ["train.csv", "every row has the label 'refund'", "at least two"],
    ),
    "not UTF-8": (
        {"train": b"text,label\ncaf\xe9,refund\n"},
        ["train.csv, row 2", "0xe9 is not UTF-8", "iconv"],
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_csv_is_refused(tmp_path, case):
    files, words = REFUSALS[case]
    with pytest.raises(DataError) as refusal:
        data.load(folder(tmp_path, **files))
    for word in words:
        assert word in str(refusal.value)


def test_text_that_is_no_string_is_refused(tmp_path):
    lines = "\n".join(json.dumps({"text": t, "label": n}) for t, n in (("a", "x"), ("b", "y")))
    bad = lines + "\n" + json.dumps({"text": 7, "label": "x"})
    with pytest.raises(DataError, match=r"train.jsonl, row 3, column 'text': 7 is int"):
        data.load(folder(tmp_path, bad, lines, lines, suffix="jsonl"))


def test_line_that_is_no_json_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"train\.jsonl, row 1: not JSON"):
        data.load(folder(tmp_path, "{oops", "{}", "{}", suffix="jsonl"))


def test_source_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"'.*no.csv' does not exist"):
        data.load(DataSettings(source=str(tmp_path / "no.csv")))


def test_labels_other_than_the_teachers_are_refused(tmp_path):
    splits = data.load(folder(tmp_path))
    with pytest.raises(DataError) as refusal:
        splits.ordered_as(["refund", "billing"], "the teacher t")
    assert "only in the data: 'track'" in str(refusal.value)
    assert "only in the teacher t: 'billing'" in str(refusal.value)


def test_label_order_of_a_teacher_is_taken(tmp_path):
    splits = data.load(folder(tmp_path))
    moved = splits.ordered_as(["track", "refund"], "the teacher")
    names = [moved.label_names[label] for label in moved.train.labels]
    assert names == ["track", "refund"]


def test_leakage_is_warned_of(tmp_path):
    settings = folder(tmp_path).model_copy(update={"leakage_warn_share": 0.1})
    with pytest.warns(LeakageWarning, match=r"2 of 2 texts \(100.0%.*first in row 2"):
        data.load(settings)


def test_texts_of_ones_own_that_are_judged_are_warned_of(tmp_path, recwarn):
    settings = folder(tmp_path)
    splits = data.load(settings)
    judged = splits.test.texts[0].upper()
    (tmp_path / "log.txt").write_text(f"something else\n{judged}\n", encoding="utf-8")
    own = OwnTexts(str(tmp_path / "log.txt"), "text")
    warn_of_judged_texts(splits, own, 1.0)
    assert not recwarn.list
    with pytest.warns(LeakageWarning, match=r"log.txt': 1 of \d+ texts of test .*too small"):
        warn_of_judged_texts(splits, own, 0.01)


def test_whole_numbers_of_many_digits_stay_apart():
    from optimize.data.labels import as_names

    ids = ["1234567890123456789", "1234567890123456790"]
    assert as_names([ids, ["+3", "3.0", "3."]]) == [ids, ["3", "3", "3"]]


@pytest.mark.parametrize("codes", [["01", "1", "2"], ["007", "7.0"], ["-01", "-1"]])
def test_codes_with_leading_zeros_stay_as_they_are(codes):
    from optimize.data.labels import as_names

    assert as_names([codes]) == [codes]


def test_labels_in_two_forms_of_unicode_are_told():
    from optimize.data.labels import alike

    composed, apart = "annul\u00e9", "annule\u0301"
    (group,) = alike([composed, apart, "other"])
    assert set(group) == {composed, apart}
    assert text_rules.normalised(f"{apart}  Order") == text_rules.normalised(f"{composed} order")
