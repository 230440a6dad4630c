"""What all stages share, and the first: each is cached under the digest of what it depends on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.data import load as data
from optimize.models import checkpoint
from optimize.models.folder import TRAIN_LIBRARIES, save_torch
from optimize.pipeline.cache import StageCache, default_root
from optimize.pipeline.key import key_of
from optimize.settings.recipe import Settings
from optimize.settings.training import TeacherSettings
from optimize.training.distributed import Processes

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from optimize.training.profile import Profile

Tell = Callable[[str], None]
TRAIN_MODULES = (
    "training/run.py",
    "training/resume.py",
    "training/trainer.py",
    "models/attention.py",
    "models/first_token.py",
    "models/encoder.py",
    "training/dataset.py",
    "training/soft_targets.py",
    "training/tokens.py",
    "training/batches.py",
    "data/arrays.py",
    "training/optimizer.py",
    "training/cross_entropy.py",
    "distill/losses.py",
    "models/checkpoint.py",
    "training/evaluation.py",
)


class TeacherStages:
    """One run over the stages, up to the teacher; each method returns its folder, built or found.

    Args:
        settings: a whole recipe.
        tell: told what is being done, a line at a time.
        cache_root: where stages are kept; by default the user's cache folder.
        profile: told where the time goes.
    """

    def __init__(
        self,
        settings: Settings,
        tell: Tell,
        cache_root: Path | None = None,
        profile: Profile | None = None,
    ) -> None:
        from optimize.training.profile import Profile as NewProfile

        self.settings = settings
        self.processes = Processes.launched()
        self.tell: Tell = tell if self.processes.first else lambda line: None
        self.cache = StageCache(cache_root or default_root(), self.processes)
        self.profile = profile or NewProfile()
        splits = data.load(settings.data)
        teacher = settings.teacher
        if not teacher.fine_tune:
            names = checkpoint.label_names(teacher.checkpoint, teacher.revision)
            splits = splits.ordered_as(names, f"the teacher {teacher.checkpoint}")
        self.splits = splits
        # What training sees of the data; the test texts are not in it.
        self.seen = splits.digest_of("train", "validation")
        self.keys: dict[str, str] = {}
        self.watch: tuple[TrainerCallback, ...] = ()  # further callbacks of every training

    def stage(
        self,
        name: str,
        parts: Mapping[str, Any],
        modules: Sequence[str],
        libraries: Sequence[str],
        make: Callable[[Path, Path], None],
        *,
        together: bool = False,
    ) -> Path:
        """The folder of one stage.

        Args:
            name: of the stage.
            parts: settings, digests and keys that the result depends on.
            modules: files in ``optimize`` whose code makes it.
            libraries: distributions whose version may change it.
            make: fills the folder given first; the second is for checkpoints.
            together: all processes make it.
        """
        self.keys[name] = key_of({"stage": name, **parts}, modules, libraries)

        def told(result: Path, work: Path) -> None:
            started = time.monotonic()
            self.tell(f"{name}: building")
            with self.profile.section(f"stage {name}"):
                make(result, work)
            self.tell(f"{name}: built in {time.monotonic() - started:.0f} s")

        return self.cache.folder(name, self.keys[name], told, together=together)

    def teacher(self) -> Path:
        """The fine-tuned teacher."""
        return self._teacher("teacher", self.settings.teacher, None)

    def _teacher(self, name: str, settings: TeacherSettings, fold: int | None) -> Path:
        folds = self.settings.distill.folds
        parts = {
            # Where a checkpoint lies does not matter; what it holds does.
            "settings": settings.model_dump(exclude={"logits", "checkpoint", "revision"}),
            "checkpoint": checkpoint.digest(settings.checkpoint, settings.revision),
            "data": self.seen,
            "fold": None if fold is None else [fold, folds],
        }

        def make(result: Path, work: Path) -> None:
            from optimize.data.folds import without_fold
            from optimize.distill.teacher import make_teacher

            train = self.splits.train
            model, tokenizer = make_teacher(
                settings,
                self.splits.label_names,
                train if fold is None else without_fold(train, fold, folds),
                self.splits.validation,
                self._run(work),
            )
            own = {"teacher": settings.model_dump(exclude={"logits"})}
            self._save(model, tokenizer, result, own)

        modules = ("distill/teacher.py", "data/folds.py", *TRAIN_MODULES)
        return self.stage(name, parts, modules, TRAIN_LIBRARIES, make, together=True)

    def _run(self, work: Path) -> Any:
        from optimize.training.run import Run

        return Run(work, self.tell, self.processes, self.profile, self.watch)

    def _save(self, model: Any, tokenizer: Any, folder: Path, recipe: dict[str, Any]) -> None:
        if self.processes.first:
            save_torch(
                model,
                tokenizer,
                folder,
                labels=self.splits.label_names,
                max_length=self.settings.teacher.max_length,
                inputs={"data": self.seen},
                recipe=recipe,
            )
        self.processes.wait()
