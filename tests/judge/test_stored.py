"""A stored report that does not say what was measured is no baseline."""

import json

import pytest

from optimize import settings
from optimize.bundle.manifest import StoredError
from optimize.cli import main
from optimize.judge.kit import read_kit
from optimize.judge.run import judge
from optimize.judge.stored import check_verdicts, read_report, write_json

GATES = {
    "judge": {
        "variants": ["teacher-onnx", "student-onnx", "student-int8"],
        "quick_blocks": 4,
        "block_ms": 1.0,
        "threads": 1,
        "workloads": {"typical": {"texts": 4}},
    },
    "gates": {
        "size": {"kind": "size", "reference": "teacher-onnx", "min_reduction_pct": 0.0},
        "speed": {"kind": "speedup", "reference": "teacher-onnx", "min_ratio": 1e-6},
        "accuracy": {"kind": "accuracy", "reference": "teacher-onnx", "max_drop_pp": 99.0},
    },
}


@pytest.fixture(scope="module")
def report(tiny_kit):
    chosen = settings.parse(GATES, "test")
    return judge(read_kit(tiny_kit), chosen, "test", "quick", lambda line: None)


@pytest.fixture
def stored(report, tmp_path):
    write_json(report, tmp_path / "report.json")
    return tmp_path / "report.json"


def edited(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_what_is_written_is_read_and_follows(report, stored):
    found = read_report(stored)
    assert found.model_copy(update={"content_sha256": None}) == report
    check_verdicts(found, "it")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["gates"][0].update(verdict="fail"),
        lambda content: content["variants"]["student-int8"].update(size_bytes=1),
        lambda content: content.update(mode="full"),
    ],
)
def test_an_edited_report_is_refused(stored, change):
    edited(stored, change)
    with pytest.raises(StoredError, match="was changed after it was written"):
        read_report(stored)


def lower_limit(content):
    content["settings"]["gates"]["size"]["min_reduction_pct"] = 99.0


FORGED = {
    "a limit that it did not have": lower_limit,
    "a size that it has not": lambda c: c["variants"]["student-int8"].update(size_bytes=10**9),
    "answers that are wrong": lambda c: c["predictions"]["test"]["student-int8"].update(
        labels=[1 - min(label, 1) for label in c["labels"]]
    ),
    "a gate that its settings lack": lambda c: c["settings"]["gates"].pop("accuracy"),
    "a gate that is gone": lambda c: c["gates"].pop(0),
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_report_whose_verdicts_do_not_follow_is_no_baseline(stored, tmp_path, kind, capsys):
    """Even with a digest made anew."""
    edited(stored, lambda content: (FORGED[kind](content), content.pop("content_sha256")))
    forged = read_report(stored)
    write_json(forged, stored)
    with pytest.raises(StoredError):
        check_verdicts(read_report(stored), "it")
    target = tmp_path / "baseline.json"
    assert main(["baseline", "save", str(stored), "--out", str(target)]) == 1
    assert not target.exists()
    assert "Judge again" in capsys.readouterr().err


def test_a_report_that_follows_is_saved(stored, tmp_path, report):
    if report.verdict != "pass":
        pytest.skip("this machine was too busy for the run to be decided")
    target = tmp_path / "baseline.json"
    assert main(["baseline", "save", str(stored), "--out", str(target)]) == 0
    assert read_report(target) == read_report(stored)
