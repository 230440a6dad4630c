"""Which gates one pytest session was asked for, and what each answered: none may be silent."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from optimize.plugin.run import Judging
from optimize.settings.gates import gate_name
from optimize.settings.recipe import Settings

if TYPE_CHECKING:
    from optimize.judge.records import GateResult

SESSION_NAME = "optimize-session"
INCONCLUSIVE_EXIT = 2
# Version of what this suite adds to pytest-benchmark's JSON.
BENCHMARK_SCHEMA = 1


class GateFailed(AssertionError):  # noqa: N818 — the word that the reader of a report looks for
    """A gate's verdict is not a pass."""


class GateInconclusive(GateFailed):
    """A gate could not be decided."""


class GateCase(NamedTuple):
    """A gate and the workload that it is decided on."""

    gate: str
    workload: str | None

    def __str__(self) -> str:
        return gate_name(self.gate, self.workload)


class Session:
    """The gates of one pytest session: those asked for, those answered, and the exit code."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.judging = Judging(config)
        self.asked: set[GateCase] = set()
        self.answered: dict[GateCase, str] = {}
        self._undecided = 0

    def result(self, case: GateCase) -> GateResult:
        """The result of one gate."""
        for result in self.judging.report.gates:
            if (result.gate, result.workload) == case:
                return result
        raise GateFailed(f"gate {case} was not decided")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note which gates were asked for, before anything is deselected."""
        if any(_case_of(item) is not None for item in items):
            # All gates of the settings, not only those that a test was found for: a deleted file
            # of benchmarks must not turn its gates off.
            self.asked = set(gate_cases(self.judging.settings))
        self._refuse_what_would_be_silent()

    def _refuse_what_would_be_silent(self) -> None:
        """Options under which gates would quietly not run."""
        option = self.config.getoption
        if not self.asked:
            given = [
                name
                for name in ("recipe", "kit", "bundle", "python", "baseline", "quick")
                if option(name)
            ]
            if given and not option("collectonly"):
                raise pytest.UsageError(
                    f"--{given[0]} was given, but no gate was collected: run `pytest benchmarks`"
                )
            return
        for name in ("benchmark_disable", "benchmark_skip"):
            if getattr(self.config.option, name, False):
                flag = name.replace("_", "-")
                raise pytest.UsageError(
                    f"--{flag} would turn the gates off without a word; leave it out, or leave "
                    "out the benchmarks folder"
                )

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Refuse to measure in one of several processes."""
        if _case_of(item) is not None and hasattr(self.config, "workerinput"):
            raise GateFailed(
                "gates cannot run under xdist: its workers share the cores that are measured. Run "
                "with `-n 0`."
            )

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
        """Note each gate's outcome."""
        case = _case_of(item)
        if call.excinfo is not None and call.excinfo.errisinstance(GateInconclusive):
            self._undecided += 1
        if case is None or call.when == "teardown":
            return
        if call.excinfo is None:
            if call.when == "call":
                self.answered[case] = "pass"
        elif call.excinfo.errisinstance(pytest.skip.Exception):
            return  # e.g. by --benchmark-only: no verdict
        elif call.excinfo.errisinstance(GateInconclusive):
            self.answered[case] = "inconclusive"
        else:
            self.answered[case] = "fail"

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Turn gates without a verdict into a failure, and only undecided ones into exit 2."""
        if session.config.getoption("collectonly"):
            return
        if self.silent and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        only = self._undecided and session.testsfailed == self._undecided and not self.silent
        if only and self.config.getoption("inconclusive") is None:
            session.exitstatus = INCONCLUSIVE_EXIT

    @property
    def silent(self) -> list[GateCase]:
        """Gates that were asked for and gave no verdict."""
        return sorted(self.asked - self.answered.keys(), key=str)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """The verdict, last."""
        report = self.judging.measured
        if report is not None:
            from optimize.judge.reports.render import terminal
            from optimize.judge.reports.tables import annotation

            terminalreporter.section("verdict")
            colour = terminalreporter.hasmarkup
            width = terminalreporter._tw.fullwidth if colour else 160
            terminalreporter.write(terminal(report, width, colour=colour))
            if os.environ.get("GITHUB_ACTIONS") == "true":
                for result in report.gates:
                    if result.verdict == "fail":
                        terminalreporter.write_line(annotation(result))
        if self.silent and not self.config.getoption("collectonly"):
            names = ", ".join(map(str, self.silent))
            terminalreporter.write_line(
                f"FAIL: {len(self.silent)} of {len(self.asked)} gates gave no verdict: {names}. "
                "Run them all, or drop them by name in judge.drop_gates.",
                red=True,
            )

    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        """Version the figures that this suite adds to pytest-benchmark's JSON."""
        report = self.judging.measured
        if report is not None:
            output_json["optimize"] = {
                "schema_version": BENCHMARK_SCHEMA,
                "verdict": report.verdict,
                "mode": report.mode,
                "fingerprint": report.fingerprint.model_dump(),
            }


def session_of(config: pytest.Config) -> Session:
    """The suite's state in this pytest session."""
    found = config.pluginmanager.get_plugin(SESSION_NAME)
    if not isinstance(found, Session):
        raise TypeError(f"{SESSION_NAME} is not registered: load optimize.plugin as a plugin")
    return found


def gate_cases(settings: Settings) -> list[GateCase]:
    """Every gate of the settings on every workload that it judges."""
    workloads = tuple(settings.judge.workloads)
    return [
        GateCase(name, workload)
        for name, gate in settings.active_gates.items()
        for workload in gate.judged_workloads(workloads)
    ]


def _case_of(item: pytest.Item) -> GateCase | None:
    callspec = getattr(item, "callspec", None)
    case = callspec.params.get("gate_case") if callspec else None
    return case if isinstance(case, GateCase) else None
