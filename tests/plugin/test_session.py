"""The exit code says what the report says, whatever tests and conftests do."""

import pytest
from canned_suite import GATES, RECIPE, TIMES, run_suite
from own_process import run_pytest

pytest_plugins = "pytester"

NO_GATES = RECIPE.partition("[gates.size]")[0]
CONTROL = """
def test_control(check_controls, undecided):
    check_controls(undecided)
"""
# Suites in bad faith: each tries to pass where a gate does not, or was not asked.
NEVER_ASKED = GATES.replace("    gate(gate_case)", "    pass")
SWALLOWED = GATES.replace(
    "    gate(gate_case)",
    "    try:\n        gate(gate_case)\n    except BaseException:\n        pass",
)
EXPECTED = GATES.replace("@pytest.mark.gates", "@pytest.mark.xfail\n@pytest.mark.gates")
SKIPPED = GATES.replace("@pytest.mark.gates", "@pytest.mark.skip\n@pytest.mark.gates")
STRICT = GATES.replace("@pytest.mark.gates", "@pytest.mark.xfail(strict=True)\n@pytest.mark.gates")
UNDECIDED_ITSELF = (
    GATES
    + """
@pytest.mark.gates("size")
def test_more(gate, gate_case, undecided):
    gate(gate_case)
    undecided("who knows")
"""
)
UNIT_FAILURE = GATES + "\ndef test_unit():\n    assert 1 == 2\n"
BROKEN_FILE = "import pathlib\npathlib.Path('test_broken.py').write_text('import nothing_there')\n"
FAILS_COVERAGE = """
import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session, exitstatus):
    session.exitstatus = 1
"""
OTHER_FAILURE = GATES + "\ndef test_other(kit, report):\n    assert False\n"
OWN_FIXTURE = """
@pytest.fixture
def gate():
    return lambda case: None
"""
REWRITTEN = """
@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    outcome.get_result().outcome = "passed"
"""
LOWERED = """
@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    session.exitstatus = 0

@pytest.hookimpl(hookwrapper=True)
def pytest_unconfigure(config):
    yield
    if getattr(config, "kept", None):
        config.kept.exitstatus = 0

def pytest_sessionstart(session):
    session.config.kept = session
    session.config.add_cleanup(lambda: setattr(session, "exitstatus", 0))
"""
CLEANED_UP = """
def pytest_configure(config):
    config.add_cleanup(lambda: setattr(config.kept, "exitstatus", 0))

def pytest_sessionstart(session):
    session.config.kept = session
"""
EXITS_AT_THE_END = """
def pytest_unconfigure(config):
    raise SystemExit(0)
"""
EXITS_AT_THE_FINISH = """
import sys

def pytest_sessionfinish(session, exitstatus):
    sys.exit(0)
"""
COLLECTS_ONLY_AT_THE_END = """
def pytest_sessionfinish(session, exitstatus):
    session.config.option.collectonly = True
    session.config.option.inconclusive = "pass"
    session.exitstatus = 0
"""
UNREGISTERED = """
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config):
    plugin = config.pluginmanager.get_plugin("optimize-session")
    config.pluginmanager.unregister(plugin)
"""


@pytest.fixture
def run(pytester, canned_report):
    def go(suite, verdict="pass", *options, recipe=RECIPE, conftest=""):
        report = canned_report(verdict)
        if recipe is NO_GATES:
            report = report.model_copy(update={"gates": ()})
        return run_suite(pytester, suite, report, *options, recipe=recipe, conftest=conftest)

    return go


# What is done to the run: (suite, verdict of a gate, options, further words of the run fixture).
BAD_FAITH = {
    "no gates in the recipe": (GATES, "pass", (), {"recipe": NO_GATES}),
    "no gates in the recipe, times alone": (TIMES, "pass", (), {"recipe": NO_GATES}),
    "no test of a gate": (TIMES, "pass", (), {}),
    "the control alone": (CONTROL, "pass", (), {}),
    "gate never called": (NEVER_ASKED, "pass", (), {}),
    "failure swallowed": (SWALLOWED, "fail", (), {}),
    "failure expected": (EXPECTED, "fail", (), {}),
    "skipped": (SKIPPED, "pass", (), {}),
    "own fixture": (GATES, "fail", (), {"conftest": OWN_FIXTURE}),
    "outcomes rewritten": (GATES, "fail", (), {"conftest": REWRITTEN}),
    "exit code lowered": (GATES, "fail", (), {"conftest": LOWERED}),
    "exit code lowered by a cleanup": (GATES, "fail", (), {"conftest": CLEANED_UP}),
    "exits at the end": (GATES, "fail", (), {"conftest": EXITS_AT_THE_END}),
    "exits at the finish": (GATES, "fail", (), {"conftest": EXITS_AT_THE_FINISH}),
    "options changed": (GATES, "fail", (), {"conftest": COLLECTS_ONLY_AT_THE_END}),
    "policy changed": (
        GATES,
        "inconclusive",
        ("--inconclusive=fail",),
        {"conftest": COLLECTS_ONLY_AT_THE_END},
    ),
    "plugin unregistered": (GATES, "fail", (), {"conftest": UNREGISTERED}),
    "plugin unregistered, passing": (GATES, "pass", (), {"conftest": UNREGISTERED}),
    "another test fails": (OTHER_FAILURE, "pass", (), {}),
    "a test of something else fails": (UNIT_FAILURE, "pass", (), {}),
    "a file cannot be imported": (
        GATES,
        "pass",
        ("--continue-on-collection-errors",),
        {"conftest": BROKEN_FILE},
    ),
    "expected to fail, strictly": (STRICT, "pass", (), {}),
    "undecided by itself": (UNDECIDED_ITSELF, "pass", ("--inconclusive=fail",), {}),
    "coverage too low": (GATES, "pass", (), {"conftest": FAILS_COVERAGE}),
    "other functions": (GATES + TIMES, "fail", ("-o", "python_functions=test_latency"), {}),
    "deselected": (GATES, "pass", ("-k", "size"), {}),
    "by node": (GATES, "pass", ("test_suite.py::test_gate[size]",), {}),
    "stopped at the first": (GATES, "fail", ("-x",), {}),
    "without the session": (GATES, "fail", ("-p", "no:optimize-session"), {}),
    "in several processes": (GATES, "pass", ("-n", "2"), {}),
    "in several processes, skipped": (SKIPPED, "pass", ("-n", "2"), {}),
    "in several processes, never called": (NEVER_ASKED, "fail", ("-n", "2"), {}),
}


@pytest.mark.parametrize("case", BAD_FAITH)
def test_nothing_but_a_pass_of_every_gate_exits_with_zero(run, case):
    suite, verdict, options, more = BAD_FAITH[case]
    assert run(suite, verdict, *options, **more).ret not in (0, 6)


def test_the_same_suite_in_good_faith_passes(run):
    """Else the table above would show nothing."""
    assert run(GATES).ret == 0
    assert run(GATES + TIMES + CONTROL).ret == 0


@pytest.mark.parametrize(
    ("options", "code"),
    [((), 6), (("--inconclusive=warn",), 0), (("--inconclusive=fail",), 1)],
)
def test_undecided_has_a_code_of_its_own(run, options, code):
    assert run(GATES, "inconclusive", *options).ret == code
    assert run(SWALLOWED, "inconclusive", *options).ret == code


def test_a_lowered_code_of_an_undecided_run_is_raised_again(run):
    assert run(GATES, "inconclusive", conftest=LOWERED).ret == 6


@pytest.mark.parametrize(
    ("suite", "code"),
    [
        (GATES + "\nraise KeyboardInterrupt\n", pytest.ExitCode.INTERRUPTED),
        (GATES + "\nthis is no Python\n", pytest.ExitCode.INTERRUPTED),
    ],
)
def test_pytests_own_codes_stay(run, suite, code):
    assert run(suite).ret == code


def test_a_broken_kit_is_one_mistake_of_usage(run, pytester):
    broken = """
from optimize.judge.kit import KitError

def broken(folder):
    raise KitError("kit/kit.json is missing")

optimize.judge.request.read_kit = broken
"""
    result = run(GATES + TIMES, conftest=broken)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = result.stdout.str() + result.stderr.str()
    assert text.count("kit/kit.json is missing") == 1
    assert "Traceback" not in text


def test_collecting_only_judges_nothing(run):
    result = run(GATES, "fail", "--collect-only")
    assert result.ret == 0
    assert "FAIL" not in result.stdout.str()


def test_a_fixture_of_the_same_name_judges_nothing(pytester):
    """Beside the plugin, other tests may have a `report` or a `kit` of their own."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def report():
            return 7

        def test_own(report):
            assert report == 7
        """
    )
    done = run_pytest(pytester)
    assert done.ret == 0
    assert "nothing was measured" not in done.stdout.str()


def test_a_fixture_of_that_name_in_a_conftest_turns_nothing_off(pytester):
    pytester.makeconftest("import pytest\n\n@pytest.fixture\ndef report():\n    return 7\n")
    pytester.makepyfile("def test_own(report):\n    assert report == 7\n")
    done = run_pytest(pytester)
    assert done.ret != 0


def test_what_leaves_a_run_that_judges_nothing_says_what_it_wanted(pytester):
    """The plugin is there for other tests too: their exits are their own."""
    pytester.makeconftest("def pytest_unconfigure():\n    raise SystemExit('licence expired')\n")
    pytester.makepyfile("def test_own():\n    pass\n")
    done = run_pytest(pytester)
    assert done.ret == 1
    assert "licence expired" in done.stderr.str()
