"""pytest runs of a small suite over a canned report: nothing is measured here."""

import json

import pytest
from canned_suite import GATES, RECIPE, TIMES, run_suite
from own_process import run_pytest

from optimize.plugin.hooks import ReplayClock

pytest_plugins = "pytester"

SUITE = TIMES + GATES


@pytest.fixture
def run(pytester, canned_report):
    def go(verdict, *options, conftest=""):
        return run_suite(pytester, SUITE, canned_report(verdict), *options, conftest=conftest)

    return go


@pytest.mark.parametrize(
    ("verdict", "options", "code"),
    [
        ("pass", (), 0),
        ("fail", (), 1),
        ("fail", ("--inconclusive=pass",), 1),
        ("inconclusive", (), 6),
        ("inconclusive", ("--inconclusive=fail",), 1),
        ("inconclusive", ("--inconclusive=warn",), 0),
        ("inconclusive", ("--inconclusive=pass",), 0),
    ],
)
def test_exit_code(run, verdict, options, code):
    result = run(verdict, *options)
    assert result.ret == code
    result.stdout.fnmatch_lines(["*verdict*", "*student-int8*", "*gates passed*"])


def test_a_run_that_broke_is_not_begun_again_for_the_next_gate(run, pytester):
    """Every gate and time fails with its words; it was tried once."""
    broken = """
def judge(*_):
    with open("tried", "a") as stream:
        stream.write("once\\n")
    raise RuntimeError("worker student-int8: it ended without an answer")

optimize.judge.request.judge = judge
"""
    result = run("pass", conftest=broken)
    result.assert_outcomes(failed=2, errors=2)
    assert (pytester.path / "tried").read_text() == "once\n"
    assert result.stdout.str().count("RuntimeError: worker student-int8: it ended") >= 4


def test_failure_says_by_how_much_and_what_to_try(run):
    run("fail", "--junitxml=j.xml").stdout.fnmatch_lines(
        ["*FAIL speed?typical?: 1.5×, limit min (it is so). Try: fewer layers.*"]
    )


@pytest.mark.parametrize(
    "options",
    [
        ("-k", "latency"),
        ("-k", "size"),
        ("--deselect", "test_suite.py::test_gate[speed[typical]]"),
        ("--benchmark-disable",),
        ("--benchmark-skip",),
        ("--benchmark-only",),
        ("-n", "2"),
        ("-x", "--deselect", "test_suite.py::test_gate[size]"),
    ],
)
def test_gate_that_did_not_run_is_no_pass(run, options):
    assert run("pass", *options).ret != 0


def test_options_without_a_gate_are_refused(pytester):
    pytester.makepyfile("def test_nothing(): pass")
    result = run_pytest(pytester, "--quick")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no gate was collected*"])


def test_misspelt_gate_is_refused(pytester):
    pytester.makefile(".toml", recipe=RECIPE.replace("min_ratio", "min_ration"))
    pytester.makepyfile(test_suite=SUITE)
    result = run_pytest(pytester, "--recipe", "recipe.toml")
    assert result.ret != 0
    assert "min_ration" in result.stdout.str() + result.stderr.str()


def test_benchmark_json_holds_the_recorded_samples(run, pytester, canned_report):
    assert run("pass", "--benchmark-json=b.json").ret == 0
    content = json.loads((pytester.path / "b.json").read_text())
    assert content["optimize"]["schema_version"] == 1
    assert len(content["benchmarks"]) == 2
    for entry in content["benchmarks"]:
        (series, *_) = canned_report("pass").timing.series["typical"].values()
        assert entry["stats"]["data"] == [s for block in series.blocks_s for s in block]
        assert entry["group"] == "typical"


def test_replay_clock_reads_back_exactly():
    clock = ReplayClock(iter([0.1, 0.7]))
    assert [clock() for _ in range(4)] == [0.0, 0.1, 0.0, 0.7]


def test_whose_gates_they_are_is_told_before_anything_is_measured(run):
    told = ["collected * items", "2 gates of recipe recipe.toml; judged: kit kit"]
    run("pass").stdout.fnmatch_lines(told)


def test_out_writes_json_and_markdown(run, pytester):
    run("fail", "--out", "report")
    assert json.loads((pytester.path / "report" / "report.json").read_text())["mode"] == "quick"
    assert "Verdict: FAIL" in (pytester.path / "report" / "report.md").read_text()


def test_a_suite_may_use_our_names_for_its_own(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("variant, workload", [(1, 2)])
        def test_own(variant, workload):
            assert (variant, workload) == (1, 2)
        """
    )
    assert run_pytest(pytester).ret == 0
