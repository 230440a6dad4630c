"""The JSON Schemas that come along are those of the records, and old reports are still read."""

import json
from importlib import resources
from pathlib import Path

import pytest

from optimize.bundle.manifest import StoredError
from optimize.cli import main
from optimize.cli.arguments import SCHEMAS
from optimize.judge.records import Report
from optimize.judge.reports.render import terminal
from optimize.judge.stored import read_report


@pytest.mark.parametrize("record", SCHEMAS)
def test_shipped_schema_is_the_records(record, capsys):
    assert main(["schema", record]) == 0
    shipped = (resources.files("optimize") / "schemas" / f"{record}.json").read_text("utf-8")
    assert json.loads(shipped) == json.loads(capsys.readouterr().out), (
        f"run: optimize schema {record} > optimize/schemas/{record}.json"
    )


@pytest.fixture
def stored(canned_report, tmp_path):
    path = tmp_path / "report.json"

    def write(**change):
        path.write_text(json.dumps(json.loads(canned_report("pass").model_dump_json()) | change))
        return path

    def without_baseline():
        content = json.loads(canned_report("pass").model_dump_json()) | {"schema_version": 1}
        for later in ("baseline", "texts", "label_names", "batch_changes"):
            del content[later]
        path.write_text(json.dumps(content))
        return path

    write.first = without_baseline
    return write


def test_a_report_of_the_first_schema_is_read(stored):
    report = read_report(stored.first())
    assert isinstance(report, Report)
    assert report.baseline is None


def test_a_report_of_a_later_schema_is_refused_by_number(stored):
    with pytest.raises(StoredError, match="schema_version 7; this version of optimize reads 1, 2"):
        read_report(stored(schema_version=7))


@pytest.mark.parametrize("word", ["NaN", "Infinity", "null"])
def test_what_is_no_number_is_refused(stored, word):
    path = stored()
    changed = path.read_text().replace("0.30000000000000004", word, 1)
    assert word in changed
    path.write_text(changed)
    with pytest.raises(StoredError, match="report"):
        read_report(path)


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[1].glob("results/*/report.json")))
def test_stored_results_still_read_and_show_what_is_compared(path):
    """Reports of earlier schemas get the comparisons that today's runs store."""
    report = read_report(path)
    assert report.comparisons is not None
    assert report.comparisons.reference in ("teacher-torch", "pytorch")
    assert not (report.schema_version < 4 and report.label_sets)
    text = terminal(report, 200, colour=False)
    for speedup in report.comparisons.speedups:
        assert f"{speedup.ratio:.1f}×" in text
    gates = {
        result.workload: result for result in report.gates if result.gate == "speedup-vs-torch"
    }
    assert len(gates) == (4 if "teacher-torch" in report.variants else 0)
    for workload, result in gates.items():
        if not report.control(workload).holds:
            continue  # decided before intervals were widened by a control that is off
        shown = report.comparisons.speedup("student-int8", workload)
        assert shown.ratio == pytest.approx(result.value)
        assert shown.interval.low == pytest.approx(result.interval.low)
        assert shown.interval.high == pytest.approx(result.interval.high)
