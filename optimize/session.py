"""What one pytest session knows of its gates: settings, the report, who was asked, who answered."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from optimize import settings as settings_module
from optimize.gatefile import BASELINE
from optimize.settings import Settings, SettingsError

if TYPE_CHECKING:
    from optimize.judge.baseline import Baseline
    from optimize.judge.kit import Kit
    from optimize.judge.records import GateResult, Mode, Report

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
        return self.gate if self.workload is None else f"{self.gate}-{self.workload}"


class Session:
    """What one pytest session knows of gates: settings, the report, and who was asked."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.asked: set[GateCase] = set()
        self.answered: dict[GateCase, str] = {}
        self._undecided = 0
        self._settings: tuple[Settings, str] | None = None
        self._report: Report | None = None
        self._kit: Kit | None = None

    @cached_property
    def settings(self) -> Settings:
        """The settings in force, with the gates against a baseline where one is given."""
        settings = self._load()[0]
        baseline = self.baseline
        if baseline is None:
            return settings
        try:
            return settings_module.against_baseline(settings, stored=baseline.report is not None)
        except SettingsError as error:
            raise pytest.UsageError(str(error)) from error

    @cached_property
    def baseline(self) -> Baseline | None:
        """What ``--baseline`` names; a revision is not built before it is measured."""
        spec = self.config.getoption("baseline")
        if spec is None:
            return None
        from optimize.judge.baseline import find

        try:
            return find(spec, self._load()[0].regression.candidate)
        except ValueError as error:
            raise pytest.UsageError(str(error)) from error

    @property
    def timed_variants(self) -> list[str]:
        """Variants that this run times: all but a baseline that is a stored report."""
        stored = self.baseline is not None and self.baseline.report is not None
        return [n for n in self.settings.judged_variants if not (stored and n == BASELINE)]

    def _load(self) -> tuple[Settings, str]:
        if self._settings is None:
            try:
                self._settings = self._find_settings()
            except SettingsError as error:
                raise pytest.UsageError(str(error)) from error
        return self._settings

    def _find_settings(self) -> tuple[Settings, str]:
        option = self.config.getoption
        project, kit = self.config.rootpath, option("kit")
        own = settings_module.has_project_settings(project)
        if kit is not None and option("recipe") is None and not own:
            from optimize.judge.kit import read_kit

            table = read_kit(kit).manifest.settings
            return settings_module.with_overrides(table, f"the kit {kit}", option("overrides"))
        return settings_module.load(option("recipe"), project, option("overrides"))

    @property
    def report(self) -> Report:
        """The report; the first call builds the kit and measures."""
        if self._report is None:
            with self._told() as tell, self._failure_kept():
                self._report = self._judge(tell)
        return self._report

    @contextmanager
    def _failure_kept(self) -> Iterator[None]:
        """Where a run has no report, its folder says why; `optimize compare` reads it."""
        try:
            yield
        except Exception as error:
            folder = self.config.getoption("out")
            if folder is not None:
                from optimize.judge.compare import FAILURE_NAME

                folder.mkdir(parents=True, exist_ok=True)
                (folder / FAILURE_NAME).write_text(f"{error}\n", encoding="utf-8")
            raise

    @property
    def kit(self) -> Kit:
        """The kit that the report is about."""
        if self._kit is None:
            _ = self.report
        if self._kit is None:
            raise GateFailed("no kit was judged")
        return self._kit

    def _judge(self, tell: Callable[[str], None]) -> Report:
        from optimize.judge.baseline import with_baseline
        from optimize.judge.duet import interpreter_names
        from optimize.judge.kit import read_kit
        from optimize.judge.measure import judge

        plain, source = self._load()
        option = self.config.getoption
        python = option("python")
        if python is not None:
            (runtime,) = interpreter_names([python])  # before anything is built for it
            tell(f"the ONNX models run under {runtime}, {python}")
        folder = option("kit")
        if folder is None:
            folder = _build(plain, tell)
        kit = read_kit(folder)
        if option("bundle") is not None:
            kit = kit.with_bundle(option("bundle"), "student-int8")
        rival = None
        if self.baseline is not None:
            candidate = plain.regression.candidate
            kit, rival = with_baseline(kit, self.baseline, candidate, self._recipe_options(), tell)
        if python is not None:
            kit = kit.under(python)
        self._kit = kit
        mode: Mode = "quick" if option("quick") else "full"
        report = judge(kit, self.settings, source, mode, tell, rival)
        if option("out") is not None:
            from optimize.judge.render import write_report

            write_report(report, option("out"))
        _write_job_summary(report)
        return report

    def _recipe_options(self) -> list[str]:
        """The options that chose the recipe, for the build of a baseline's revision."""
        recipe = self.config.getoption("recipe")
        chosen = [] if recipe is None else ["--recipe", recipe]
        for override in self.config.getoption("overrides"):
            chosen += ["--set", override]
        return chosen

    def _told(self) -> _Teller:
        return _Teller(self.config)

    def result(self, case: GateCase) -> GateResult:
        """The result of one gate."""
        for result in self.report.gates:
            if (result.gate, result.workload) == case:
                return result
        raise GateFailed(f"gate {case} was not decided")

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note which gates were asked for, before anything is deselected."""
        if any(_case_of(item) is not None for item in items):
            # All gates of the settings, not only those that a test was found for: a deleted file
            # of benchmarks must not turn its gates off.
            self.asked = set(gate_cases(self.settings))
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
        if self._report is not None:
            from optimize.judge.render import terminal
            from optimize.judge.report import annotation

            terminalreporter.section("verdict")
            colour = terminalreporter.hasmarkup
            width = terminalreporter._tw.fullwidth if colour else 160
            terminalreporter.write(terminal(self._report, width, colour=colour))
            if os.environ.get("GITHUB_ACTIONS") == "true":
                for result in self._report.gates:
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
        if self._report is not None:
            output_json["optimize"] = {
                "schema_version": BENCHMARK_SCHEMA,
                "verdict": self._report.verdict,
                "mode": self._report.mode,
                "fingerprint": self._report.fingerprint.model_dump(),
            }


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


def _build(settings: Settings, tell: Callable[[str], None]) -> Path:
    try:
        from optimize.build.pipeline import build
    except ImportError as error:
        raise pytest.UsageError(
            f"building a kit needs the extra `build` ({error}); `pip install optimize[build]`, "
            "or judge a kit built elsewhere with --kit"
        ) from error
    return build(settings, tell)


def _write_job_summary(report: Report) -> None:
    """On GitHub, the tables as the job's summary."""
    from optimize.judge.render import markdown

    place = os.environ.get("GITHUB_STEP_SUMMARY")
    if place:
        with Path(place).open("a", encoding="utf-8") as stream:
            stream.write(markdown(report))


class _Teller:
    """Shows lines in the terminal although pytest captures output."""

    def __init__(self, config: pytest.Config) -> None:
        self._capture = config.pluginmanager.getplugin("capturemanager")
        self._reporter = config.pluginmanager.getplugin("terminalreporter")
        self._start = time.monotonic()

    def __enter__(self) -> Callable[[str], None]:
        if self._capture is not None:
            self._capture.suspend(in_=False)
        if self._reporter is not None:
            self._reporter.ensure_newline()
        return self._tell

    def __exit__(self, *_: object) -> None:
        if self._capture is not None:
            self._capture.resume()

    def _tell(self, line: str) -> None:
        if self._reporter is not None:
            self._reporter.write_line(f"  {time.monotonic() - self._start:5.0f} s  {line}")
            self._reporter.flush()
