"""Builds what is asked for: every stage once, from the cache where it is there and whole."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from optimize.data.load import load, warn_of_judged_texts
from optimize.data.splits import DataError, Splits
from optimize.data.unlabelled import is_file
from optimize.memory import told_when_out
from optimize.models import checkpoint
from optimize.pipeline.cache import StageCache, default_root
from optimize.pipeline.graph import can_quantize, graph, own_texts
from optimize.pipeline.own import tell_left_out
from optimize.pipeline.preflight import preflight, undecidable
from optimize.pipeline.stage import Stage
from optimize.settings.judging import COMPARED
from optimize.settings.recipe import Settings
from optimize.training.distributed import Processes
from optimize.training.profile import Profile
from optimize.training.run import Run
from optimize.workspace import Detail, Progress, Tell, behind

if TYPE_CHECKING:
    from transformers import TrainerCallback


def build(
    settings: Settings,
    tell: Tell,
    cache_root: Path | None = None,
    profile: Profile | None = None,
    *,
    judged: bool = False,
) -> Path:
    """Build the kit that the settings describe, or find it in the cache.

    Under ``accelerate launch`` or ``torchrun`` the processes share the training and the scoring,
    and the first one writes.

    Args:
        settings: a whole recipe; its gates and judge tables do not touch the result.
        tell: told what is being done, a line at a time.
        cache_root: where stages are kept; by default the user's cache folder.
        profile: told where the time goes.
        judged: whether the kit is to be judged by these gates: then those that its texts cannot
            decide are refused before anything trains, and else told.

    Raises:
        DataError: a gate that the texts cannot decide, where the kit is to be judged.

    Returns:
        The kit's folder. It belongs to the cache: copy it before changing it.
    """
    with told_when_out():
        return _build(settings, Runner(tell, cache_root, profile), tell, judged=judged)


def _build(settings: Settings, runner: Runner, tell: Tell, *, judged: bool) -> Path:
    built = Build(settings, runner)
    compared = settings.quantize.compare
    new = not runner.has(built.stages["kit"])
    if new:
        preflight(settings)
        faults = undecidable(settings, built.splits)
        if faults and judged:
            raise DataError("\n".join(faults))
        for fault in faults:
            tell(f"a run would be refused: {fault}")
        tell_left_out(settings, tell)
    if new and settings.builds_chain and compared != "none" and not can_quantize(compared):
        tell(
            f"{COMPARED}: left out, since optimum is not installed: `pip install "
            '"optimize[optimum]"` brings it, with the transformers that it allows'
        )
    if new:
        runner.begin(built.stages.values())
        # Models of one's own take no time, and may be refused: not after hours of training.
        for name in settings.variants.keys() & built.stages["kit"].inputs.keys():
            if settings.variants[name].trained is None:
                runner.folder(built.stages["kit"].inputs[name])
    return built.folder("kit")


def load_splits(settings: Settings) -> Splits:
    """The recipe's data; label ids in the order of the teacher's, where it is trained already.

    Raises:
        DataError: data that cannot be used, or with other labels than the teacher.
        CheckpointError: no such teacher.

    Warns:
        LeakageWarning: the student would learn from texts that it is judged on.
    """
    splits = load(settings.data)
    own = own_texts(settings) if settings.builds_chain else None
    if own is not None and is_file(own.source):
        warn_of_judged_texts(splits, own, settings.data.leakage_warn_share)
    teacher = settings.teacher
    if teacher.fine_tune or not settings.builds_chain:
        return splits
    names = checkpoint.label_names(teacher.checkpoint, teacher.revision)
    return splits.ordered_as(names, f"the teacher {teacher.checkpoint}")


class Runner:
    """Makes stages, with whom and told to whom.

    Args:
        tell: told what is being done, by the first process alone.
        cache_root: where stages are kept; by default the user's cache folder.
        profile: told where the time goes.
        watch: further callbacks of every training.
    """

    def __init__(
        self,
        tell: Tell,
        cache_root: Path | None = None,
        profile: Profile | None = None,
        watch: tuple[TrainerCallback, ...] = (),
    ) -> None:
        self.processes = Processes.launched()
        self.profile = profile or Profile()
        self._tell: Tell = tell if self.processes.first else _silent
        self._watch = watch
        self._cache = StageCache(cache_root or default_root(), self._tell, self.processes)
        self._folders: dict[str, Path] = {}
        self._wanted: tuple[int, int] = 0, 0

    def begin(self, stages: Iterable[Stage]) -> None:
        """Say how many of the stages are in the cache, and count those that are not."""
        every = list(stages)
        there = [stage for stage in every if self.has(stage)]
        for stage in there:
            self._tell(Detail(f"{stage.name}: in the cache"))
        if there:
            self._tell(f"{len(there)} of {len(every)} stages are in the cache")
        self._wanted = 0, len(every) - len(there)

    def _count(self) -> None:
        done, every = self._wanted
        if every:
            self._wanted = done + 1, every
            words = f"build: {done + 1} of {every} stages built"
            self._tell(Progress(words, (done + 1) / every, passing=True))

    def folder(self, stage: Stage) -> Path:
        """The stage's result. What it is made of is made first, where it is not there itself."""
        if stage.key not in self._folders:
            found = self._cache.find(stage.name, stage.key)
            self._folders[stage.key] = found or self._build(stage)
        return self._folders[stage.key]

    def has(self, stage: Stage) -> bool:
        """Whether the stage's result is in the cache."""
        return self._cache.find(stage.name, stage.key) is not None

    def _build(self, stage: Stage) -> Path:
        inputs = {role: self.folder(each) for role, each in stage.inputs.items()}

        def fill(result: Path, work: Path) -> None:
            started = time.monotonic()
            self._tell(f"{stage.name}: building")
            with self.profile.section(f"stage {stage.name}"), told_when_out(stage.name):
                run = Run(work, tell, self.processes, self.profile, self._watch)
                stage.function()(result, run, **stage.values, **inputs)
            self._tell(f"{stage.name}: built in {time.monotonic() - started:.0f} s")
            self._count()

        def tell(line: str) -> None:
            self._tell(behind(stage.name, line))

        return self._cache.build(stage.name, stage.key, fill, stage.parts, together=stage.together)


@dataclass(frozen=True)
class Build:
    """A recipe with its data and stages.

    Attributes:
        settings: a whole recipe.
        runner: makes its stages.
    """

    settings: Settings
    runner: Runner

    @cached_property
    def splits(self) -> Splits:
        """The data; see :func:`load_splits`."""
        return load_splits(self.settings)

    @cached_property
    def stages(self) -> Mapping[str, Stage]:
        """The recipe's stages, by name."""
        return graph(self.settings, self.splits)

    def folder(self, name: str) -> Path:
        """The result of one of them."""
        return self.runner.folder(self.stages[name])


def _silent(_: str) -> None:
    """What the other processes are told is told by the first."""
