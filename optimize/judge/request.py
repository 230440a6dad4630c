"""What a command or a pytest session asks to be judged, and the run that answers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from optimize import settings as settings_module
from optimize.judge import baseline as baseline_module
from optimize.judge.baseline import Baseline
from optimize.judge.checks import check_kit
from optimize.judge.duet import interpreter_names
from optimize.judge.kit import Kit, KitError, checked_manifest, read_kit
from optimize.judge.records import Mode, Report
from optimize.judge.run import judge
from optimize.settings.gates import BASELINE
from optimize.settings.recipe import Settings
from optimize.workspace import Tell

# Builds the kit that settings describe; only where no kit is given.
BuildKit = Callable[[Settings, Tell], Path]


@dataclass(frozen=True)
class Request:
    """The options of ``optimize run`` and of ``pytest benchmarks``.

    Attributes:
        project: folder whose pyproject.toml may hold the settings.
        recipe: shipped recipe or TOML file, instead of those.
        overrides: ``KEY=VALUE`` assignments.
        kit: judge this one instead of building one.
        bundle: judge it in place of the kit's INT8 model.
        python: interpreter that runs the ONNX models.
        baseline: what the run is held against.
        quick: three replicates.
    """

    project: Path
    recipe: str | None = None
    overrides: tuple[str, ...] = ()
    kit: Path | None = None
    bundle: Path | None = None
    python: str | None = None
    baseline: str | None = None
    quick: bool = False

    @property
    def mode(self) -> Mode:
        """Of the run."""
        return "quick" if self.quick else "full"

    @property
    def recipe_options(self) -> list[str]:
        """The options that chose the recipe, for the build of a baseline's revision."""
        chosen = [] if self.recipe is None else ["--recipe", self.recipe]
        for override in self.overrides:
            chosen += ["--set", override]
        return chosen


class JudgedRun:
    """A request, resolved step by step: settings and baseline at once, kit and report when asked.

    Args:
        request: what is asked.
        build: builds the kit where none is given.
    """

    def __init__(self, request: Request, build: BuildKit) -> None:
        self.request = request
        self._build = build

    @cached_property
    def settings(self) -> Settings:
        """The settings in force, with the gates against a baseline where one is given.

        Raises:
            SettingsError: they cannot be used.
            BaselineError: there is no such baseline.
        """
        if self.baseline is None:
            return self._plain[0]
        stored = self.baseline.report is not None
        return settings_module.against_baseline(self._plain[0], stored=stored)

    @cached_property
    def baseline(self) -> Baseline | None:
        """What the run is held against; a revision is not built before the run."""
        if self.request.baseline is None:
            return None
        return baseline_module.find(self.request.baseline, self._plain[0].regression.candidate)

    @property
    def timed_variants(self) -> list[str]:
        """Variants that this run times: all but a baseline that is a stored report."""
        stored = self.baseline is not None and self.baseline.report is not None
        return [n for n in self.settings.judged_variants if not (stored and n == BASELINE)]

    @cached_property
    def _plain(self) -> tuple[Settings, str]:
        """The settings without a baseline's gates, and where they came from."""
        request = self.request
        if self._kit_says:
            table = read_kit(Path(str(request.kit))).manifest.settings
            return settings_module.with_overrides(
                table, f"the kit {request.kit}", request.overrides
            )
        return settings_module.load(request.recipe, request.project, request.overrides)

    @cached_property
    def _runtime(self) -> str:
        """The onnxruntime of the interpreter that was given."""
        (runtime,) = interpreter_names([str(self.request.python)])
        return runtime

    @property
    def _kit_says(self) -> bool:
        """Whether the settings are those of the kit that is judged, since there are no others."""
        request = self.request
        own = request.recipe or settings_module.has_project_settings(request.project)
        return request.kit is not None and not own

    @property
    def source(self) -> str:
        """Where the settings came from, in words."""
        return self._plain[1]

    def check(self) -> None:
        """Refuse what can be refused before anything is built or measured.

        Raises:
            SettingsError: they cannot be used.
            BaselineError: there is no such baseline.
            KitError: the kit or bundle that was given is broken, or its texts cannot decide a gate.
            DuetError: the interpreter cannot run a bundle.
        """
        request, settings = self.request, self.settings
        candidate = self._plain[0].regression.candidate
        self._check_candidate(candidate)
        if request.python is not None:
            self._runtime  # noqa: B018 — asked once, and raises
        if request.bundle is not None:
            checked_manifest(candidate, request.bundle)
        if request.kit is not None:
            kit = read_kit(request.kit)
            check_kit(kit, settings)
            if self.baseline is not None and self.baseline.bundle is not None:
                kit.with_bundle(self.baseline.bundle, BASELINE)
            if request.bundle is not None:
                kit.with_bundle(request.bundle, candidate)

    def _check_candidate(self, candidate: str) -> None:
        """Refuse to hold against a baseline, or to put a bundle in the place of, what is not there.

        Raises:
            KitError: ``regression.candidate`` is not judged, or the stored report has none such.
        """
        request, judged = self.request, self.settings.judged_variants
        asked = "--bundle" if request.bundle is not None else "--baseline"
        if (request.bundle, request.baseline) != (None, None) and candidate not in judged:
            raise KitError(
                f"{asked} is about the variant {candidate!r} (regression.candidate), and judge."
                f"variants has {', '.join(judged)}; set regression.candidate to one of them"
            )
        stored = None if self.baseline is None else self.baseline.report
        if stored is not None and candidate not in stored.variants:
            raise KitError(
                f"the baseline's report has no variant {candidate!r} (it has "
                f"{', '.join(stored.variants)}); set regression.candidate"
            )

    def judge(self, tell: Tell) -> tuple[Kit, Report]:
        """Build or read the kit, measure, decide.

        Args:
            tell: told what is being done.
        """
        request = self.request
        plain, source = self._plain
        if request.python is not None:
            # Before anything is built for it.
            tell(f"the ONNX models run under {self._runtime}, {request.python}")
        settings, against = self.settings, None
        kit = read_kit(request.kit or self._build(plain, tell))
        kit = kit.trusting({} if self._kit_says else plain.variants)
        if request.bundle is not None:
            kit = kit.with_bundle(request.bundle, plain.regression.candidate)
        if self.baseline is not None:
            candidate = plain.regression.candidate
            kit, against = baseline_module.with_baseline(
                kit, self.baseline, candidate, request.recipe_options, tell, request.project
            )
        if request.python is not None:
            kit = kit.under(request.python)
        return kit, judge(kit, settings, source, request.mode, tell, against)
