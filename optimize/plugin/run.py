"""From a pytest session's options to its report, measured when first asked, and once."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from optimize.settings.recipe import Settings
from optimize.telling import Teller
from optimize.workspace import Tell

if TYPE_CHECKING:
    from collections.abc import Callable

    from optimize.judge.kit import Kit
    from optimize.judge.records import Report
    from optimize.judge.request import JudgedRun

UNDER_XDIST = (
    "gates cannot run under xdist: its workers share the cores that are measured. Run with `-n 0`."
)
# What ends a run without a report; pytest.fail, as of a time limit, is no Exception.
BROKEN = (Exception, pytest.fail.Exception)
Answer = TypeVar("Answer")


class Judging:
    """What the options ask to be judged, and by what.

    Args:
        config: pytest's, with the options of :mod:`optimize.plugin`.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self._run: JudgedRun | None = None
        self._judged: tuple[Kit, Report] | None = None
        self._failure: BaseException | None = None

    @property
    def settings(self) -> Settings:
        """The settings in force, with the gates against a baseline where one is given."""
        return self._asked(lambda run: run.settings)

    @property
    def timed_variants(self) -> list[str]:
        """Variants that this run times."""
        return self._asked(lambda run: run.timed_variants)

    @property
    def source(self) -> str:
        """Where the settings came from, in words."""
        return self._asked(lambda run: run.source)

    def _asked(self, question: Callable[[JudgedRun], Answer]) -> Answer:
        """What the options say; where they cannot be followed, that is a mistake of usage."""
        try:
            self._run = self._run or _judged_run(self.config)
            return question(self._run)
        # Settings, a baseline or a kit that cannot be used; or a warning that `-W error` raises.
        except (ValueError, Warning) as error:
            raise pytest.UsageError(str(error)) from error

    def check(self) -> None:
        """Refuse at once what no run can judge.

        Raises:
            pytest.UsageError: a kit that is not there or broken, or a gate that the texts cannot
                decide.
        """
        folder = self.config.getoption("out")
        if folder is not None and folder.exists() and not folder.is_dir():
            raise pytest.UsageError(f"--out {folder} is a file; give a folder")
        if folder is not None:
            from optimize.judge.baseline import refuse_own_folder

            self._asked(lambda run: refuse_own_folder(run.request.baseline, folder))
        self._asked(lambda run: run.check())

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
        if hasattr(self.config, "workerinput"):
            raise RuntimeError(UNDER_XDIST)
        if self._failure is not None:
            # Minutes into a run a worker may die: the next gate must not start it all again.
            raise self._failure
        if self._judged is None:
            try:
                with _Teller(self.config) as tell:
                    self._judged = self._judge(tell)
            except BROKEN as error:
                self._failure = error
                if _is_refusal(error):
                    # Once, and without a traceback, which has no more to say than the message.
                    pytest.exit(str(error), returncode=pytest.ExitCode.TESTS_FAILED)
                raise
        return self._judged

    def tell_of_no_report(self, why: str) -> None:
        """Where a run has no report, its folder says why, and has none of an earlier run.

        ``optimize compare`` reads it. The folder of the baseline is left as it is.

        Args:
            why: what ended the run, where it did not break while it was judged.
        """
        folder = self.config.getoption("out")
        if folder is None or (folder.exists() and not folder.is_dir()):
            return
        from optimize.judge.baseline import BaselineError, refuse_own_folder
        from optimize.judge.reports.render import write_failure

        try:
            refuse_own_folder(self.config.getoption("baseline"), folder)
        except BaselineError:
            return
        # A folder that cannot be written is told by the run's own end, or by nothing.
        with suppress(OSError):
            write_failure(folder, why if self._failure is None else str(self._failure))

    def _judge(self, tell: Tell) -> tuple[Kit, Report]:
        from optimize.judge.baseline import refuse_own_folder
        from optimize.judge.reports.render import clear_report, write_report

        run = self._run = self._run or _judged_run(self.config)
        folder = self.config.getoption("out")
        if folder is not None:
            # Again: where files cannot be collected and a run goes on, nothing was checked before.
            refuse_own_folder(run.request.baseline, folder)
            clear_report(folder)
        kit, report = run.judge(tell)
        if folder is not None:
            write_report(report, folder)
        return kit, report

    def tell_of_failure(self, why: str) -> None:
        """The report of a run that failed says so too, wherever it is shown."""
        if self._judged is None or self._judged[1].failure:
            return
        from optimize.judge.reports.render import write_report

        kit, report = self._judged
        report = report.model_copy(update={"failure": why})
        self._judged = kit, report
        folder = self.config.getoption("out")
        if folder is not None:
            write_report(report, folder)


def _is_refusal(error: BaseException) -> bool:
    """Whether it is one of our own errors, which give fact, values and remedy."""
    return isinstance(error, ValueError) and type(error).__module__.startswith("optimize.")


def _project(config: pytest.Config) -> Path:
    """Where pytest was called, if settings are there; a part of a repository may have its own."""
    from optimize.settings import has_project_settings

    called = config.invocation_params.dir
    return called if has_project_settings(called) else config.rootpath


def _judged_run(config: pytest.Config) -> JudgedRun:
    from optimize.judge.request import JudgedRun, Request

    option = config.getoption
    request = Request(
        project=_project(config),
        recipe=option("recipe"),
        overrides=tuple(option("overrides")),
        kit=option("kit"),
        bundle=option("bundle"),
        python=option("python"),
        baseline=option("baseline"),
        quick=option("quick"),
    )
    return JudgedRun(request, _build)


def _build(settings: Settings, tell: Tell) -> Path:
    try:
        from optimize.pipeline.runner import build
    except ImportError as error:
        raise pytest.UsageError(
            f"building a kit needs the extra `build` ({error}); `pip install optimize[build]`, "
            "or judge a kit built elsewhere with --kit"
        ) from error
    return build(settings, tell, judged=True)


def write_job_summary(report: Report) -> None:
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
        self._teller: Teller | None = None

    def __enter__(self) -> Tell:
        if self._capture is not None:
            self._capture.suspend(in_=False)
        if self._reporter is None:
            return lambda line: None
        self._reporter.ensure_newline()
        self._reporter.flush()
        stream = self._reporter._tw._file  # where pytest itself writes; nothing public names it
        self._teller = Teller(stream, quiet=self._reporter.verbosity < -1, indent="  ")
        return self._teller.__enter__()

    def __exit__(self, *_: object) -> None:
        if self._teller is not None:
            self._teller.__exit__()
        if self._capture is not None:
            self._capture.resume()
