"""Which gates one pytest session was asked for, what each answered, and the exit code."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from optimize.escape import for_terminal
from optimize.plugin.items import (
    GateCase,
    GateFailed,
    GateInconclusive,
    case_of,
    gate_cases,
    judges,
)
from optimize.plugin.run import UNDER_XDIST, Judging, write_job_summary
from optimize.settings.recipe import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from optimize.judge.records import GateResult, Report

SESSION_NAME = "optimize-session"
# pytest's own codes are 0 to 5.
INCONCLUSIVE_EXIT = 6
# Codes that a judging session may end with, if nothing broke.
OURS = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, INCONCLUSIVE_EXIT)
LISTING = ("showfixtures", "show_fixtures_per_test", "cacheshow", "setupplan", "setuponly")
# Version of what this suite adds to pytest-benchmark's JSON.
BENCHMARK_SCHEMA = 1


class Outcome(NamedTuple):
    """How a judging session ends.

    Attributes:
        code: the exit code.
        words: why, where the tables do not say so themselves.
    """

    code: int
    words: str = ""


class Session:
    """The gates of one pytest session, and the one source of its exit code.

    Args:
        config: pytest's.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.judging = Judging(config)
        self.asked: set[GateCase] = set()
        self.answered: set[GateCase] = set()
        self._judges = False
        self._in_worker_of_xdist = False
        self._other_failures = 0
        self._undecided = 0
        self._session: pytest.Session | None = None
        self._refused: pytest.UsageError | None = None
        # Read now: a conftest could set them later.
        self._collect_only = bool(config.getoption("collectonly"))
        # What only shows what there is, and says nothing of an earlier report.
        self._lists = self._collect_only or any(
            getattr(config.option, name, False) for name in LISTING
        )
        self._inconclusive = config.getoption("inconclusive")

    @property
    def settings(self) -> Settings | None:
        """The settings in force; nothing where they cannot be used, which is told once, later."""
        if self._refused is None:
            try:
                return self.judging.settings
            except pytest.UsageError as error:
                self._refused = error
        return None

    def result(self, case: GateCase) -> GateResult:
        """The result of one gate; that it was asked for is what makes it judged."""
        for result in self.judging.report.gates:
            if (result.gate, result.workload) == case:
                self.answered.add(case)
                return result
        raise GateFailed(f"gate {case} was not decided")

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Keep the session, whose exit status is set at its end."""
        self._session = session

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> None:
        """Note whether the run is judged, before anything is deselected."""
        try:
            self._prepare(session, items)
        except pytest.UsageError as error:
            self._refused = error
            raise

    def _prepare(self, session: pytest.Session, items: Iterable[pytest.Item]) -> None:
        self._judges = any(judges(item) for item in items)
        if self._refused is not None:
            raise self._refused
        if self._judges:
            self._quieten_benchmarks()
            # All gates of the settings, not only those that a test was found for: a deleted file
            # of benchmarks must not turn its gates off.
            self.asked = set(gate_cases(self.judging.settings))
        if not session.testsfailed:  # else pytest tells which file it could not collect
            self._refuse_what_would_be_silent()

    def pytest_report_collectionfinish(self) -> list[str]:
        """Whose gates they are and what they judge, since a project's own win over a kit's."""
        if not self._judges:
            return []
        kit = self.config.getoption("kit")
        what = "the kit that they describe" if kit is None else f"kit {kit}"
        told = f"{len(self.asked)} gates of {self.judging.source}; judged: {what}"
        return [for_terminal(told)]

    def _refuse_what_would_be_silent(self) -> None:
        """Options under which gates would quietly not run, and a run that is in vain."""
        option = self.config.getoption
        if not self._judges:
            names = ("recipe", "kit", "bundle", "python", "baseline", "quick", "out")
            given = [name for name in (*names, "inconclusive") if option(name)]
            if given and not self._collect_only:
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
        if not self._collect_only and not hasattr(self.config, "workerinput"):
            self.judging.check()

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        """Count failures that are no verdict of a gate, before others may change a report."""
        yield
        error = call.excinfo
        if error is None or not judges(item) or error.errisinstance(pytest.skip.Exception):
            return
        if error.errisinstance(GateInconclusive):
            self._undecided += 1
        elif not (case_of(item) and error.errisinstance(GateFailed)):
            self._other_failures += 1

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Set the exit code; :meth:`last_word` looks at it again."""
        if (workeroutput := getattr(self.config, "workeroutput", None)) is not None:
            workeroutput[SESSION_NAME] = self._judges
        session.exitstatus = self._settled(session, int(session.exitstatus))
        if workeroutput is None and self.judging.measured is None and not self._lists:
            self.judging.tell_of_no_report(self._why_nothing(int(session.exitstatus)))
        self._agree(int(session.exitstatus))

    def _agree(self, code: int) -> None:
        """No report says pass of a run that ends otherwise."""
        report = self.judging.measured
        if report is None or report.verdict == "fail" or code in (0, INCONCLUSIVE_EXIT):
            return
        if report.verdict == "inconclusive" and self.outcome == Outcome(1):
            return  # by --inconclusive=fail
        ended = f"pytest ended with {code}, which no gate explains"
        self.judging.tell_of_failure(self.outcome.words or ended)

    def _why_nothing(self, code: int) -> str:
        """Why there is no report."""
        if self._refused is not None:
            return str(self._refused)
        judged = self._judges or self._in_worker_of_xdist
        why = self.outcome.words if judged and code in OURS else "nothing was judged"
        return f"{why}; pytest ended with {code}"

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker of xdist ends, which alone knows whether it had gates."""
        if getattr(node, "workeroutput", {}).get(SESSION_NAME):
            self._in_worker_of_xdist = True

    def last_word(self, code: int) -> int:
        """The exit code, after every hook and cleanup of every plugin and conftest."""
        session = self._session
        if session is None:
            return code
        taken_away = self.config.pluginmanager.get_plugin(SESSION_NAME) is not self
        # Its hooks too: what they would have seen, nobody knows.
        code = code or 1 if taken_away else self._settled(session, code)
        self._agree(code)
        # Only here: what is in the job's summary cannot be taken back.
        if (report := self.judging.measured) is not None:
            write_job_summary(report)
        return code

    def _settled(self, session: pytest.Session, code: int) -> int:
        """The exit code where pytest would end with this one."""
        if self._in_worker_of_xdist:
            return code or 1
        if not self._judges or self._collect_only:
            return code
        if code not in (*OURS, pytest.ExitCode.NO_TESTS_COLLECTED):
            return code
        if code == pytest.ExitCode.TESTS_FAILED and not session.testsfailed:
            return code  # another plugin's, as of a coverage that is too low
        return self.outcome.code

    @property
    def outcome(self) -> Outcome:
        """The exit code of a judging session, from this run's report and pytest's own failures.

        0 only where there is a gate, each was asked for by a test, the report says pass of each,
        and no other test failed; 1 for a failure, a gate that was not judged, a run that broke, or
        no gate; 6 where a gate is undecided, unless ``--inconclusive`` says otherwise.
        """
        if self._in_worker_of_xdist:
            return Outcome(1, UNDER_XDIST)
        report = self.judging.measured
        if not self.asked:
            return Outcome(1, "the settings have no gate: nothing was judged")
        if report is None:
            return Outcome(1, "nothing was measured: no gate was judged")
        if self.silent:
            names = ", ".join(map(str, self.silent))
            return Outcome(
                1,
                f"{len(self.silent)} of {len(self.asked)} gates gave no verdict: {names}. Run them "
                "all, or drop them by name in judge.drop_gates.",
            )
        return self._decided(report)

    def _decided(self, report: Report) -> Outcome:
        """The outcome where every gate was asked for and there is a report."""
        from optimize.judge.records import overall

        decided = {GateCase(each.gate, each.workload): each.verdict for each in report.gates}
        verdict = overall([report.verdict, *(decided.get(case, "fail") for case in self.asked)])
        if verdict == "fail":
            return Outcome(1)
        if failures := self._unexplained:
            several = f"{failures} tests that are no gates failed"
            return Outcome(1, several if failures > 1 else "1 test that is no gate failed")
        if verdict == "inconclusive" or self._undecided:
            return Outcome({None: INCONCLUSIVE_EXIT, "fail": 1}.get(self._inconclusive, 0))
        return Outcome(0)

    @property
    def _unexplained(self) -> int:
        """Failures that no gate of the report explains, where none of them is failed.

        pytest's own count has those of other tests too, of files that cannot be imported, and of
        strict expectations; ours, those that a conftest has made pytest forget.
        """
        failed = 0 if self._session is None else self._session.testsfailed
        explained = self._undecided
        if self._inconclusive == "fail" and self.judging.measured is not None:
            explained += sum(each.verdict == "inconclusive" for each in self.judging.measured.gates)
        return max(self._other_failures, failed - explained)

    def _quieten_benchmarks(self) -> None:
        """pytest-benchmark's wide tables are for who asks, by `-v` or by its own options."""
        given = map(str, self.config.invocation_params.args)
        asked = any(argument.startswith("--benchmark-") for argument in given)
        benchmarks = getattr(self.config, "_benchmarksession", None)
        if benchmarks is not None and not asked and self.config.get_verbosity() < 1:
            benchmarks.quiet = True

    @property
    def silent(self) -> list[GateCase]:
        """Gates of the settings that no test asked for."""
        return sorted(self.asked - self.answered, key=str)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: Any, exitstatus: int) -> None:
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
        judged = self._judges and not self._collect_only
        ended = exitstatus in (*OURS, pytest.ExitCode.NO_TESTS_COLLECTED)
        words = "" if report is not None and report.failure else self.outcome.words
        if ended and (judged or self._in_worker_of_xdist) and words:
            terminalreporter.write_line(f"FAIL: {words}", red=True)

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
