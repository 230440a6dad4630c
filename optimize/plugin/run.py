"""From a pytest session's options to its report: settings, baseline, kit, one run of the judge."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from optimize import settings as settings_module
from optimize.settings.gates import BASELINE
from optimize.settings.load import SettingsError
from optimize.settings.recipe import Settings

if TYPE_CHECKING:
    from optimize.judge.baseline import Baseline
    from optimize.judge.kit import Kit
    from optimize.judge.records import Mode, Report


class Judging:
    """What the options ask to be judged, and by what; measured when first asked, and once.

    Args:
        config: pytest's, with the options of :mod:`optimize.plugin`.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self._settings: tuple[Settings, str] | None = None
        self._judged: tuple[Kit, Report] | None = None
        self._failure: Exception | None = None

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
        return self._once()[1]

    @property
    def kit(self) -> Kit:
        """The kit that the report is about."""
        return self._once()[0]

    @property
    def measured(self) -> Report | None:
        """The report, if there is one yet."""
        return None if self._judged is None else self._judged[1]

    def _once(self) -> tuple[Kit, Report]:
        if self._failure is not None:
            # Minutes into a run a worker may die: the next gate must not start it all again.
            raise self._failure
        if self._judged is None:
            try:
                with _Teller(self.config) as tell, self._failure_kept():
                    self._judged = self._judge(tell)
            except Exception as error:
                self._failure = error
                raise
        return self._judged

    @contextmanager
    def _failure_kept(self) -> Iterator[None]:
        """Where a run has no report, its folder says why; `optimize compare` reads it."""
        try:
            yield
        except Exception as error:
            folder = self.config.getoption("out")
            if folder is not None:
                from optimize.judge.reports.compare import FAILURE_NAME

                folder.mkdir(parents=True, exist_ok=True)
                (folder / FAILURE_NAME).write_text(f"{error}\n", encoding="utf-8")
            raise

    def _judge(self, tell: Callable[[str], None]) -> tuple[Kit, Report]:
        from optimize.judge.baseline import with_baseline
        from optimize.judge.duet import interpreter_names
        from optimize.judge.kit import read_kit
        from optimize.judge.run import judge

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
        against = None
        if self.baseline is not None:
            candidate = plain.regression.candidate
            kit, against = with_baseline(
                kit, self.baseline, candidate, self._recipe_options(), tell
            )
        if python is not None:
            kit = kit.under(python)
        mode: Mode = "quick" if option("quick") else "full"
        report = judge(kit, self.settings, source, mode, tell, against)
        if option("out") is not None:
            from optimize.judge.reports.render import write_report

            write_report(report, option("out"))
        _write_job_summary(report)
        return kit, report

    def _recipe_options(self) -> list[str]:
        """The options that chose the recipe, for the build of a baseline's revision."""
        recipe = self.config.getoption("recipe")
        chosen = [] if recipe is None else ["--recipe", recipe]
        for override in self.config.getoption("overrides"):
            chosen += ["--set", override]
        return chosen


def _build(settings: Settings, tell: Callable[[str], None]) -> Path:
    try:
        from optimize.pipeline.runner import build
    except ImportError as error:
        raise pytest.UsageError(
            f"building a kit needs the extra `build` ({error}); `pip install optimize[build]`, "
            "or judge a kit built elsewhere with --kit"
        ) from error
    return build(settings, tell)


def _write_job_summary(report: Report) -> None:
    """On GitHub, the tables as the job's summary."""
    from optimize.judge.reports.render import markdown

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
