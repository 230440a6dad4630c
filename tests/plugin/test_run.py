import json
import shutil
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from own_process import run_pytest

from optimize import settings
from optimize.judge.kit import read_kit
from optimize.judge.records import Span
from optimize.judge.reports.tables import complaint
from optimize.judge.run import judge

pytest_plugins = "pytester"

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RECIPE = """
[judge]
variants = ["teacher-onnx", "student-onnx", "student-int8"]
quick_blocks = 4
block_ms = 1.0
threads = 1
[judge.workloads.typical]
texts = 4
[judge.workloads.batch4]
batch_size = 4
texts = 8
[gates.size]
kind = "size"
reference = "teacher-onnx"
min_reduction_pct = 0.0
[gates.speed]
kind = "speedup"
reference = "teacher-onnx"
min_ratio = 1e-6
[gates.accuracy]
kind = "accuracy"
reference = "teacher-onnx"
max_drop_pp = 99.0
[gates.fidelity]
kind = "fidelity"
min_agreement_pct = 0.0
[gates.startup]
kind = "startup"
max_startup_s = 1e6
[gates.memory]
kind = "memory"
max_peak_mib = 1e6
"""
GATES = 7
CONFTEST = """
from pathlib import Path
import optimize.judge.request
from optimize.judge.stored import read_report
optimize.judge.request.judge = lambda *_: read_report(Path(__file__).with_name("canned.json"))
"""


@pytest.fixture(scope="session")
def measured(tiny_kit, tmp_path_factory):
    """One real quick run. On a busy machine its control may not hold: here it is said to."""
    recipe = tmp_path_factory.mktemp("gates") / "gates.toml"
    recipe.write_text(RECIPE)
    chosen, source = settings.load(str(recipe))
    report = judge(read_kit(tiny_kit), chosen, source, "quick", lambda line: None)
    return report.model_copy(
        update={
            "controls": tuple(c.model_copy(update={"holds": True}) for c in report.controls),
            "gates": tuple(g.model_copy(update={"verdict": "pass"}) for g in report.gates),
        }
    )


def with_verdict(report, gate, verdict):
    changes = {"verdict": verdict, "reason": "it is so", "remedy": "that"}
    return report.model_copy(
        update={
            "gates": tuple(
                g.model_copy(update=changes) if g.name == gate else g for g in report.gates
            )
        }
    )


@pytest.fixture
def run(pytester, tiny_kit, measured):
    pytester.makefile(".toml", gates=RECIPE)
    pytester.makeconftest(CONFTEST)
    shutil.copytree(
        BENCHMARKS, pytester.path / "benchmarks", ignore=shutil.ignore_patterns("__pycache__")
    )

    def go(*options, report=measured):
        (pytester.path / "canned.json").write_text(report.model_dump_json())
        # With `=`: pytest would take a lone path for an argument and move its rootdir.
        judged = (f"--kit={tiny_kit}", "--recipe=gates.toml", "--quick")
        without = ("-p", "no:cacheprovider")
        return run_pytest(pytester, *without, "benchmarks", *judged, *options)

    return go


def test_passing_run_ends_with_the_verdict(run, measured):
    result = run()
    assert result.ret == 0
    assert len(measured.gates) == GATES
    # 2 workloads × 3 variants, the control, and the Classifier's answers
    result.assert_outcomes(passed=GATES + 6 + 2, skipped=1)  # no --baseline was given
    lines = [line for line in result.outlines if line.strip()]
    assert lines[-2] == f"PASS: {GATES} of {GATES} gates passed"
    assert max(n for n, line in enumerate(lines) if "benchmark" in line) < next(
        n for n, line in enumerate(lines) if " verdict " in line and line.startswith("=")
    )


def test_failing_gate_tells_junit(run, pytester, measured):
    report = with_verdict(measured, "speed[batch4]", "fail")
    (gate,) = [g for g in report.gates if g.verdict == "fail"]
    result = run("--junitxml=j.xml", report=report)
    assert result.ret == 1
    result.assert_outcomes(failed=1, passed=GATES + 6 + 1, skipped=1)
    assert complaint(gate) in result.stdout.str()
    cases = ET.parse(pytester.path / "j.xml").getroot().iter("testcase")
    properties = {
        case.get("name"): ({p.get("name"): p.get("value") for p in case.iter("property")}, case)
        for case in cases
    }
    told, case = properties["test_speedup[speed[batch4]]"]
    assert told == {key: getattr(gate, key) for key in ("verdict", "measured", "limit", "reason")}
    assert complaint(gate) in case.find("failure").get("message")
    assert properties["test_speedup[speed[typical]]"][0]["verdict"] == "pass"
    assert len([case for _, case in properties.values() if case.find("failure") is not None]) == 1


def test_failed_and_undecided_is_failed(run, measured):
    report = with_verdict(with_verdict(measured, "accuracy", "inconclusive"), "size", "fail")
    assert run(report=report).ret == 1


def test_control_that_does_not_hold_is_told(run, measured):
    """Its widening is in every interval already."""
    off = {"holds": False, "ratio": 0.95, "interval": Span(low=0.9, high=0.98)}
    broken = tuple(c.model_copy(update=off) for c in measured.controls)
    result = run(report=measured.model_copy(update={"controls": broken}))
    assert result.ret == 0
    assert any("taken to be off by up to 11.1 %" in line for line in result.outlines)


def test_control_without_an_interval_is_undecided(run, measured):
    unknown = {"holds": False, "interval": Span(low=None, high=None)}
    broken = tuple(c.model_copy(update=unknown) for c in measured.controls)
    assert run(report=measured.model_copy(update={"controls": broken})).ret == 6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-k", "not speedup"], "2 of 7 gates gave no verdict"),
        (["-m", "workloads"], "7 of 7 gates gave no verdict"),
        (
            ["--deselect", "benchmarks/test_size.py::test_size[size]"],
            "1 of 7 gates gave no verdict: size",
        ),
        (["--benchmark-only"], "7 of 7 gates gave no verdict"),
        (["--benchmark-disable"], "--benchmark-disable would turn the gates off"),
        (["-n", "2"], ""),
    ],
)
def test_gates_are_never_silent(run, options, words):
    result = run(*options)
    assert result.ret != 0
    assert words in result.stdout.str() + result.stderr.str()


def test_empty_folder_is_no_pass(run, pytester):
    shutil.rmtree(pytester.path / "benchmarks")
    pytester.mkdir("benchmarks")
    result = run()
    assert result.ret != 0
    assert "no gate was collected" in result.stdout.str() + result.stderr.str()


def test_benchmark_json_and_report_hold_the_same_floats(run, pytester, measured):
    assert run("--benchmark-json=b.json", "--out", "report").ret == 0
    shown = json.loads((pytester.path / "b.json").read_text())
    stored = json.loads((pytester.path / "report" / "report.json").read_text())
    assert shown["optimize"]["schema_version"] == 1
    assert shown["optimize"]["verdict"] == "pass"
    data = {
        (entry["group"], entry["params"]["variant"]): entry["stats"]["data"]
        for entry in shown["benchmarks"]
    }
    assert len(shown["benchmarks"]) == len(data) == 6
    for (workload, variant), seconds in data.items():
        blocks = stored["timing"]["series"][workload][variant]["blocks_s"]
        assert seconds == [second for replicate in blocks for second in replicate]
        assert len(seconds) > 1


def test_gate_whose_file_is_gone_is_no_pass(run, measured, pytester):
    (pytester.path / "benchmarks" / "test_latency.py").unlink()
    result = run()
    assert result.ret == 1
    result.stdout.fnmatch_lines(["FAIL: * gates gave no verdict: speed[[]typical]. Run them all*"])


def test_xdist_is_refused_with_its_words(run):
    result = run("-n", "2")
    assert result.ret == 1
    assert "gates cannot run under xdist" in result.stdout.str()


def test_the_interpreter_given_answers_for_the_bundle(run, tmp_path):
    """Asked for its versions, and then for the very labels that were scored."""
    python, asked = tmp_path / "python", tmp_path / "asked"
    python.write_text(f'#!/bin/sh\necho asked >> {asked}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    result = run(f"--python={python}")
    assert result.ret == 0
    assert any("the ONNX models run under ort-" in line for line in result.outlines)
    assert asked.read_text().splitlines() == ["asked"] * 2


def test_an_interpreter_that_is_none_is_named(run, tmp_path):
    result = run("--python", str(tmp_path / "python"))
    assert_one_mistake(result, "python cannot be started")


def assert_one_mistake(result, words):
    """Refused at once, in one sentence, and nothing else is said of gates."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    told = result.stdout.str() + result.stderr.str()
    assert told.count(words) == 1
    assert "Traceback" not in told
    assert "FAIL" not in told


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--recipe", "nowhere.toml"], "nowhere.toml"),
        (["--baseline=nosuch"], "baseline nosuch: nosuch does not exist"),
        (["--baseline=git:0123456789"], "git rev-parse"),
        (["--bundle=nowhere"], "variant student-int8: "),
        (["--out=gates.toml"], "--out gates.toml is a file; give a folder"),
        (["--set", "regression.candidate=student-torch", "--bundle=."], "set regression.candidate"),
    ],
)
def test_what_cannot_be_judged_is_one_mistake_of_usage(run, options, words):
    assert_one_mistake(run(*options), words)


@pytest.fixture
def relabelled(tiny_kit, pytester):
    """A bundle of other labels, as of a branch before all classes were renamed."""
    folder = pytester.path / "before"
    shutil.copytree(tiny_kit / "student-int8", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["labels"] = [f"old {name}" for name in manifest["labels"]]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_baseline_of_other_labels_is_one_mistake_of_usage(run, relabelled):
    result = run(f"--baseline={relabelled}")
    assert_one_mistake(result, "Judge without a baseline (in the action, `baseline: none`)")


def test_what_is_refused_in_the_run_is_told_once(run, pytester):
    """As a revision that cannot be built: a traceback for every gate would hide the remedy."""
    with (pytester.path / "conftest.py").open("a") as stream:
        stream.write("\nfrom optimize.judge.kit import KitError\n")
        stream.write("def broken(*_):\n    raise KitError('the kit is of another day')\n")
        stream.write("optimize.judge.request.judge = broken\n")
    result = run("--out=report")
    assert result.ret == 1
    told = result.stdout.str() + result.stderr.str()
    assert told.count("the kit is of another day") == 1
    assert "Traceback" not in told
    assert "def broken" not in told
    assert "FAIL: nothing was measured" in told
    failure = pytester.path / "report" / "failure.txt"
    assert failure.read_text() == "the kit is of another day\n"


def test_a_run_that_breaks_leaves_no_earlier_report(run, pytester):
    assert run("--out=report").ret == 0
    assert (pytester.path / "report" / "report.json").is_file()
    with (pytester.path / "conftest.py").open("a") as stream:
        stream.write("\ndef broken(*_):\n    raise OSError('no core left')\n")
        stream.write("optimize.judge.request.judge = broken\n")
    assert run("--out=report").ret == 1
    assert [path.name for path in (pytester.path / "report").iterdir()] == ["failure.txt"]


def test_a_report_is_not_held_against_the_folder_that_it_is_written_to(run, pytester):
    """A second try would be held against the first one's result."""
    folder = pytester.path / "report"
    assert run("--out=report").ret == 0
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    for named in ("report", "report/report.json"):
        result = run("--out=report", f"--baseline={named}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert "would replace what it is held against" in result.stderr.str()
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept
    # Where pytest goes on past a file that it cannot read, nothing is checked before the run.
    (pytester.path / "benchmarks" / "test_broken.py").write_text("no Python")
    given = ("--continue-on-collection-errors", "--out=report", "--baseline=report")
    result = run(*given)
    assert result.ret == 1
    assert "would replace what it is held against" in result.stdout.str()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept


def test_a_candidate_that_is_not_judged_is_not_asked(run, measured):
    """Its gates decide; what is only about what one ships is left out, and says why."""
    chosen = measured.settings | {"regression": {"candidate": "student-torch"}}
    result = run("-rs", report=measured.model_copy(update={"settings": chosen}))
    assert result.ret == 0
    assert "'student-torch' is not one of judge.variants" in result.stdout.str()


def test_a_part_of_a_repository_has_settings_of_its_own(pytester):
    """Those of the folder that pytest is called in, if it has some, and not of pytest's root."""
    table = "[tool.pytest.ini_options]\n[tool.optimize]\nname = {!r}\n"
    pytester.makefile(".toml", pyproject=table.format("whole"))
    part = pytester.mkdir("part")
    (part / "pyproject.toml").write_text(table.format("part").partition("\n")[2])
    (part / "test_it.py").write_text("def test_it(pytestconfig):\n    pass\n")
    code = "import pytest; from optimize.plugin.run import _project; "
    told = code + "c = pytest.Config.fromdictargs({}, []); print(_project(c).name)"
    for folder, name in ((part, "part"), (pytester.path, pytester.path.name)):
        done = pytester.run(sys.executable, "-c", f"import os; os.chdir({str(folder)!r}); {told}")
        assert done.outlines == [name]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--recipe", "nowhere.toml"], "nowhere.toml"),
        (["--bundle=nowhere"], "variant student-int8: "),
        (["--benchmark-disable"], "--benchmark-disable would turn the gates off"),
        (["-n", "2"], "gates cannot run under xdist"),
        (["test_broken.py"], "pytest ended with 2"),
    ],
)
def test_a_run_that_is_refused_leaves_no_earlier_report(run, pytester, options, words):
    assert run("--out=report").ret == 0
    if "test_broken.py" in options:
        (pytester.path / "test_broken.py").write_text("def broken(:")
    assert run("--out=report", *options).ret != 0
    (left,) = (pytester.path / "report").iterdir()
    assert left.name == "failure.txt"
    assert words in left.read_text()


def test_collecting_alone_leaves_a_report(run, pytester):
    assert run("--out=report").ret == 0
    for showing in ("--collect-only", "--fixtures", "--setup-plan"):
        run("--out=report", showing)
    assert (pytester.path / "report" / "report.json").is_file()


@pytest.mark.parametrize("policy", ["warn", None])
def test_warnings_as_errors_make_no_failure_of_a_verdict(run, measured, policy):
    options = [] if policy is None else [f"--inconclusive={policy}"]
    strict = ("-W", "error", "-W", "ignore::pytest.PytestAssertRewriteWarning")
    result = run(*strict, *options, report=with_verdict(measured, "speed[typical]", "inconclusive"))
    assert result.ret == {"warn": 0, None: 6}[policy]


def test_a_tool_table_that_is_a_text_is_a_mistake_of_usage(pytester, run):
    (pytester.path / "pyproject.toml").write_text('[tool]\noptimize = "yes"\n')
    assert_one_mistake(run("--recipe="), "tool.optimize is 'yes'")
