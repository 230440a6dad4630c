"""Reports of a matrix side by side: labels decide, times of two runs never fail alone."""

import re

import pytest

from optimize.cli import main
from optimize.judge.records import Fingerprint, Predictions, Series
from optimize.judge.reports import compare
from optimize.judge.reports.compare import (
    CompareError,
    changes,
    read_runs,
    run_table,
    text_lines,
    verdict,
)
from optimize.judge.reports.render import write_report

VARIANT = "student-int8"
TEXTS = ("where is it", "pay me back")


def report(canned_report, version, *, seconds=1.0, labels=(0, 1), by_batch=(), **change):
    plain, split = canned_report("pass"), change.get("split", "test")
    libraries = {"onnxruntime": version, "python": change.pop("python", "3.11.7")}
    fingerprint = plain.fingerprint.model_dump() | {"libraries": libraries}
    blocks = ((seconds, seconds * 1.01, seconds * 0.99),) * 3
    series = Series(blocks_s=blocks, calls=1, p50_ms=1000 * seconds, p95_ms=1000 * seconds)
    timing = plain.timing.model_copy(
        update={"series": {"typical": dict.fromkeys(plain.variants, series)}}
    )
    answers = Predictions(labels=labels, confidences=(0.9, 0.8))
    return plain.model_copy(
        update={
            "fingerprint": Fingerprint.model_validate(fingerprint),
            "timing": timing,
            "scores": {split: plain.scores["test"]},
            "predictions": {split: dict.fromkeys(plain.variants, answers)},
            "batch_changes": {VARIANT: by_batch},
            "texts": TEXTS,
            "label_names": ("track", "refund"),
            **change,
        }
    )


@pytest.fixture
def folders(canned_report, tmp_path):
    """Writes reports into folders, and names them."""

    def write(*reports):
        places = []
        for number, (version, change) in enumerate(reports):
            folder = tmp_path / f"run{number}"
            write_report(report(canned_report, version, **change), folder)
            places.append(folder)
        return places

    return write


def compared(places, pct=5.0):
    runs = read_runs(places, VARIANT)
    return runs, changes(runs, VARIANT, pct)


def test_equal_runs_pass_in_the_order_of_versions(folders):
    runs, found = compared(folders(("1.9.0", {}), ("1.32.0", {}), ("1.18.1", {})))
    assert [run.name for run in runs] == ["1.9.0", "1.18.1", "1.32.0"]
    assert verdict(found) == "pass"
    header, rows = run_table(runs, VARIANT)
    assert header[0] == "onnxruntime"
    assert [row[0] for row in rows] == ["1.9.0", "1.18.1", "1.32.0"]
    assert rows[0][1] == "1000.00  1.00×"


def test_changed_label_fails_and_names_the_text(folders):
    _, found = compared(folders(("1.31.0", {}), ("1.32.0", {"labels": (0, 0)})))
    assert verdict(found) == "fail"
    (line,) = text_lines(found)
    assert line == "1.31.0 → 1.32.0: 'pay me back' (refund): refund 0.80 → track 0.80"


def test_label_that_hangs_on_the_batch_is_no_change_of_the_runtime(folders):
    change = {"labels": (0, 0), "by_batch": (1,)}
    _, found = compared(folders(("1.31.0", {}), ("1.32.0", change)))
    assert verdict(found) == "pass"
    labels = next(change for change in found if change.gate == "labels")
    assert labels.reason == "1 more change by batch alone"


def test_slower_run_is_undecided_since_the_two_were_apart(folders):
    _, found = compared(folders(("1.31.0", {}), ("1.32.0", {"seconds": 1.2})))
    assert verdict(found) == "inconclusive"
    speed = next(change for change in found if change.gate == "speed[typical]")
    assert "`optimize duet`" in speed.reason
    assert speed.measured == "0.83×"


def test_only_the_newest_decides_on_time(folders):
    reports = ("1.30.0", {}), ("1.31.0", {"seconds": 1.2}), ("1.32.0", {"seconds": 1.2})
    _, found = compared(folders(*reports))
    assert verdict(found) == "pass"
    assert any(change.verdict == "inconclusive" for change in found)


def test_run_without_a_report_fails_with_its_reason(folders, tmp_path):
    places = folders(("1.31.0", {}), ("1.32.0", {}))
    failed = tmp_path / "ort118"
    failed.mkdir()
    (failed / compare.FAILURE_NAME).write_text("opset 23 needs onnxruntime ≥ 1.22; this is 1.18")
    runs, found = compared([*places, failed])
    assert verdict(found) == "fail"
    assert runs[-1].name == "ort118"
    assert "opset 23 needs" in next(change for change in found if change.gate == "loads").reason
    assert run_table(runs, VARIANT)[1][-1][1] == "failed to load"


def test_pythons_are_told_apart_and_not_compared_on_time(folders):
    reports = ("1.31.0", {}), ("1.32.0", {}), ("1.32.0", {"python": "3.13.0", "seconds": 9.0})
    runs, found = compared(folders(*reports))
    assert [run.name for run in runs] == ["1.31.0", "1.32.0 (Python 3.11)", "1.32.0 (Python 3.13)"]
    assert verdict(found) == "pass"


def test_the_newest_alone_under_its_python_is_undecided_and_its_labels_decide(folders):
    """Each runtime is compared with another, or nothing would be said of the newest."""
    older = [("1.20.0", {}), ("1.21.0", {})]
    for answers, said in (((0, 1), "inconclusive"), ((1, 0), "fail")):
        newest = ("1.32.0", {"python": "3.12.1", "labels": answers})
        found = changes(read_runs(folders(*older, newest), VARIANT), VARIANT, 5.0)
        assert verdict(found) == said
        last = {each.gate: each for each in found if each.after == "1.32.0"}
        assert last["speed"].before == last["labels"].before == "1.21.0"
        assert "Python 3.11 and 3.12" in last["speed"].reason
    # An older one alone decides nothing on time.
    oldest = ("1.18.0", {"python": "3.12.1"})
    assert verdict(changes(read_runs(folders(*older, oldest), VARIANT), VARIANT, 5.0)) == "pass"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cpu": "another"}, "cpu: .* → another"),
        ({"threads": 64}, "threads: .* → 64"),
        ({"mode": "full"}, "mode: quick → full"),
    ],
)
def test_times_of_unlike_machines_decide_nothing(folders, canned_report, change, words):
    """A slower runtime on a faster machine is no pass."""
    place = canned_report("pass").fingerprint.model_dump()
    if "mode" not in change:
        libraries = {"onnxruntime": "1.21.0", "python": "3.11.7"}
        change = {"fingerprint": Fingerprint(**(place | change | {"libraries": libraries}))}
    runs = read_runs(folders(("1.20.0", {}), ("1.21.0", {"seconds": 0.5, **change})), VARIANT)
    (speed, _) = found = changes(runs, VARIANT, 5.0)
    assert verdict(found) == "inconclusive"
    assert re.search(words, speed.reason)
    assert speed.reason.startswith("unlike machines")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data_digest": "other"}, "judged another texts than 1.31.0"),
        ({"split": "validation"}, "judged another split"),
    ],
)
def test_unlike_runs_are_refused(folders, change, words):
    with pytest.raises(CompareError, match=words):
        read_runs(folders(("1.31.0", {}), ("1.32.0", change)), VARIANT)


def test_one_run_is_nothing_to_compare(folders):
    with pytest.raises(CompareError, match="1 report was given"):
        read_runs(folders(("1.31.0", {})), VARIANT)


def test_variant_that_no_report_has(folders):
    with pytest.raises(CompareError, match="no variant 'mine'"):
        read_runs(folders(("1.31.0", {}), ("1.32.0", {})), "mine")


def test_command_takes_a_folder_of_runs(folders, tmp_path, capsys):
    folders(("1.31.0", {}), ("1.32.0", {"labels": (0, 0)}))
    assert main(["compare", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "pay me back" in told
    assert told.rstrip().endswith("verdict: fail")


@pytest.mark.parametrize(("policy", "code"), [(None, 6), ("pass", 0), ("warn", 0), ("fail", 1)])
def test_command_on_an_undecided_comparison(folders, tmp_path, policy, code):
    folders(("1.31.0", {}), ("1.32.0", {"seconds": 1.2}))
    given = [] if policy is None else ["--inconclusive", policy]
    assert main(["compare", str(tmp_path), *given]) == code


def test_command_writes_table_and_plot(folders, tmp_path):
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    places = folders(("1.31.0", {}), ("1.32.0", {}))
    out = tmp_path / "out"
    assert main(["compare", *map(str, places), "--out", str(out)]) == 0
    assert "| 1.32.0 |" in (out / "compare.md").read_text()
    assert "<svg" in (out / "compare.svg").read_text()
    # A comparison that is refused leaves none of an earlier one.
    assert main(["compare", str(places[0]), "--out", str(out)]) == 1
    assert list(out.iterdir()) == []


def test_runs_of_different_pythons_alone_are_nothing_to_compare(folders):
    reports = ("1.32.0", {}), ("1.32.0", {"python": "3.13.0"})
    with pytest.raises(CompareError, match=r"\(Python 3.13\) were run under the same Python.*duet"):
        compared(folders(*reports))


def test_variant_that_one_run_did_not_measure_is_named(folders, canned_report):
    facts = dict(canned_report("pass").variants)
    facts[VARIANT] = facts[VARIANT].model_copy(update={"missing": "opset 23 is not known"})
    with pytest.raises(CompareError, match=r"was not measured .opset 23 is not known"):
        compared(folders(("1.31.0", {}), ("1.32.0", {"variants": facts})))
