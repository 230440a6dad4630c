"""A stored report that does not say what was measured is no baseline."""

import hashlib
import json

import pytest

from optimize import settings
from optimize.bundle.manifest import StoredError
from optimize.cli import main
from optimize.judge.baseline import find
from optimize.judge.kit import read_kit
from optimize.judge.records import Report
from optimize.judge.run import judge
from optimize.judge.stored import check_verdicts, read_report, together, write_json

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
    edited(stored, FORGED[kind])
    content = json.loads(stored.read_text())
    write_json(Report.model_validate(content), stored)
    with pytest.raises(StoredError):
        check_verdicts(read_report(stored), "it")
    target = tmp_path / "baseline.json"
    assert main(["baseline", "save", str(stored), "--out", str(target)]) == 1
    assert not target.exists()
    assert "Judge again" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["size", "digest"])
def test_a_report_without_its_digest_is_no_baseline(stored, change):
    """Who edits a report may take the digest away: then nothing says that it was not edited."""
    content = json.loads(stored.read_text())
    del content["content_sha256"]
    if change == "size":
        content["variants"]["student-int8"]["size_bytes"] *= 10
    stored.write_text(json.dumps(content))
    with pytest.raises(StoredError, match="has no content_sha256"):
        find(str(stored), "student-int8")
    assert main(["report", str(stored), "--json"]) == 1
    target = stored.with_name("sealed-anew.json")
    assert main(["baseline", "save", str(stored), "--out", str(target)]) == 1
    assert not target.exists()


def test_a_report_that_follows_is_saved(stored, tmp_path, report):
    if report.verdict != "pass":
        pytest.skip("this machine was too busy for the run to be decided")
    target = tmp_path / "baseline.json"
    assert main(["baseline", "save", str(stored), "--out", str(target)]) == 0
    assert read_report(target) == read_report(stored)


def test_further_runs_of_the_same_models_are_kept(stored, tmp_path, report):
    if report.verdict != "pass":
        pytest.skip("this machine was too busy for the run to be decided")
    target, again = tmp_path / "baseline.json", tmp_path / "again.json"
    timing = report.timing.model_copy(update={"seconds": report.timing.seconds + 1})
    write_json(report.model_copy(update={"timing": timing}), again)
    assert main(["baseline", "save", str(stored), str(again), "--out", str(target)]) == 0
    kept = read_report(target)
    assert [run.series.keys() for run in kept.runs] == [report.timing.series.keys()]


def test_a_run_of_other_weights_is_no_further_run(report):
    facts = report.variants["student-int8"].model_copy(update={"model_sha256": "0" * 64})
    other = report.model_copy(update={"variants": report.variants | {"student-int8": facts}})
    with pytest.raises(StoredError, match="student-int8: not of the same weights"):
        together({"a": report, "b": other})
    with pytest.raises(StoredError, match="it is the same run"):
        together({"a": report, "b": report})
    # Nor is one that another of them is already.
    timing = report.timing.model_copy(update={"seconds": report.timing.seconds + 1})
    again = report.model_copy(update={"timing": timing})
    with pytest.raises(StoredError, match="it is the same run"):
        together({"a": report, "b": again, "c": again})
    with pytest.raises(StoredError, match="it is the same run"):
        together({"a": report, "b": again.model_copy(update={"runs": (report.timing,)})})


def test_neither_reports_nor_runs(capsys):
    assert main(["baseline", "save"]) == 1
    assert "give reports to keep, or --runs N" in capsys.readouterr().err


@pytest.mark.whole
def test_runs_are_measured_and_kept(tiny_kit, tmp_path, monkeypatch, report):
    """The recipe is the kit's; its gates here are met by a kit of two random models."""
    if report.verdict != "pass":
        pytest.skip("this machine was too busy for the run to be decided")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        '[judge]\nvariants = ["teacher-onnx", "student-onnx", "student-int8"]\nquick_blocks = 4\n'
        "block_ms = 1.0\nthreads = 1\nworkloads = {typical = {texts = 4}}\n"
        '[gates.size]\nkind = "size"\nreference = "teacher-onnx"\nmin_reduction_pct = 0.0\n'
    )
    target = tmp_path / "baseline.json"
    save = ["baseline", "save", "--runs", "2", "--quick", "--kit", str(tiny_kit)]
    assert main([*save, "--recipe", str(recipe), "--out", str(target)]) == 0
    assert len(read_report(target).runs) == 1


def test_schema_4_is_read_by_its_own_digest(report, tmp_path):
    """That digest was taken of the file as written, whose fields were fewer."""
    content = json.loads(report.model_dump_json(exclude={"content_sha256", "runs"}))
    content["schema_version"] = 4
    for by_variant in content["timing"]["series"].values():
        for series in by_variant.values():
            del series["cpu_s"]
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    path = tmp_path / "report.json"
    path.write_text(f'{text[:-1]},"content_sha256":"{digest}"}}\n', encoding="utf-8")
    assert read_report(path).runs == ()
    write_json(read_report(path), tmp_path / "again.json")
    assert read_report(tmp_path / "again.json").schema_version == 6
    path.write_text(path.read_text().replace('"mode":"quick"', '"mode":"full"'))
    with pytest.raises(StoredError, match="was changed"):
        read_report(path)


def test_an_indented_report_is_the_same(stored):
    edited(stored, lambda content: None)
    stored.write_text(json.dumps(json.loads(stored.read_text()), indent=2))
    read_report(stored)
