"""The stages that train, each cached under the digest of all that it depends on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.build import checkpoint, data
from optimize.build.cache import StageCache, default_root, key_of
from optimize.build.folders import (
    TRAIN_LIBRARIES,
    save_torch,
)
from optimize.build.processes import Processes
from optimize.records import (
    FileEntry,
)
from optimize.runtime import read_manifest
from optimize.settings import UNDISTILLED, DistillSettings, Settings, TeacherSettings

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from optimize.build.profile import Profile

Tell = Callable[[str], None]
TRAIN_MODULES = (
    "training.py",
    "trainer.py",
    "lessons.py",
    "tokens.py",
    "store.py",
    "schedule.py",
    "losses.py",
    "checkpoint.py",
    "metrics.py",
)
SCORE_MODULES = ("logits.py", "taps.py", "tokens.py", "store.py", "student.py", "checkpoint.py")


class TrainingStages:
    """One run over the stages that train; each method returns its folder, built or found.

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
        from optimize.build.profile import Profile as NewProfile

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
            modules: files in ``optimize/build`` whose code makes it.
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
            from optimize.build.folds import without_fold
            from optimize.build.teacher import make_teacher

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

        modules = ("teacher.py", "folds.py", *TRAIN_MODULES)
        return self.stage(name, parts, modules, TRAIN_LIBRARIES, make, together=True)

    def transfer(self) -> Path:
        """The texts that the student learns from."""
        settings = self.settings.distill
        replaces = settings.augment > 0 and "replace" in settings.augment_kinds
        teacher = self.teacher() if replaces else None
        file = Path(settings.transfer) if settings.transfer else None
        parts = {
            "data": self.seen,
            "augment": [settings.augment, settings.augment_kinds, settings.seed],
            "embeddings": self.keys["teacher"] if replaces else None,
            "transfer": FileEntry.of(file).sha256 if file and file.is_file() else settings.transfer,
            "column": self.settings.data.text_column,
        }

        def make(result: Path, work: Path) -> None:
            from optimize.build.transfer import word_replacements, write_transfer_set

            words = None
            if teacher is not None:
                model = checkpoint.load_classifier(str(teacher))
                tokenizer = checkpoint.load_tokenizer(str(teacher))
                words = word_replacements(self.splits.train.texts, model, tokenizer)
            found = write_transfer_set(self.splits, settings, self.settings.data, result, words)
            self.tell(f"transfer: {len(found)} texts, {len(self.splits.train)} of them labelled")

        modules = ("transfer.py", "augment.py", "sources.py")
        return self.stage("transfer", parts, modules, ("tokenizers",), make)

    def logits(self) -> Path:
        """What the teacher says of the transfer set."""
        source = self.settings.teacher.logits
        texts = self.transfer()
        teacher = None if source else self.teacher()
        folds = 0 if source else self.settings.distill.folds
        scorers = {f"teacher-fold{fold}": fold for fold in range(folds)}
        for name, fold in scorers.items():
            self._teacher(name, self.settings.teacher, fold)
        parts = {
            "teacher": FileEntry.of(Path(source)).sha256 if source else self.keys["teacher"],
            "folds": [self.keys[name] for name in scorers],
            "transfer": self.keys["transfer"],
            "wanted": self._wanted_settings(),
        }

        def make(result: Path, work: Path) -> None:
            from optimize.build import logits
            from optimize.build.transfer import TransferSet

            transfer = TransferSet(texts)
            if teacher is None:
                names = self.splits.label_names
                store = result / logits.STORE_NAME
                self.processes.by_first(
                    lambda: logits.import_precomputed(
                        Path(str(source)), "train", len(transfer), names, store
                    )
                )
                return
            with self.profile.section("teacher's answers"):
                self._score(teacher, transfer.texts(), result, work)
                if folds:
                    self._cross_fit(transfer, result, work)

        modules = (*SCORE_MODULES, "folds.py")
        return self.stage("teacher-logits", parts, modules, TRAIN_LIBRARIES, make, together=True)

    def _score(self, teacher: Path, texts: Any, result: Path, work: Path) -> None:
        from optimize.build.logits import score
        from optimize.build.tokens import tokenise_once

        model = checkpoint.load_classifier(str(teacher))
        tokenizer = checkpoint.load_tokenizer(str(teacher))
        length = self.settings.teacher.max_length
        tokens = tokenise_once(texts, tokenizer, length, work / "tokens", self.processes)
        score(model, tokens, result, self.tell, self._wanted(model), self.processes)

    def _cross_fit(self, transfer: Any, result: Path, work: Path) -> None:
        """Each fold's teacher answers for the training texts that it has not seen."""
        from optimize.build.folds import fold_rows
        from optimize.build.logits import STORE_NAME, Targets

        folds, train = self.settings.distill.folds, self.splits.train
        for fold in range(folds):
            rows = fold_rows(len(train), fold, folds)
            place = work / f"fold{fold}"
            place.mkdir(parents=True, exist_ok=True)
            scorer = self._teacher(f"teacher-fold{fold}", self.settings.teacher, fold)
            self._score(scorer, [train.texts[row] for row in rows], place, place)
            if self.processes.first:
                Targets.read(result).logits[rows] = Targets.read(place).logits[:]
                (place / STORE_NAME).unlink()
        self.processes.wait()

    def _wanted_settings(self) -> dict[str, Any]:
        """What decides which inner states of the teacher are stored."""
        distill, student = self.settings.distill, self.settings.student
        return {
            "hidden": [student.model_dump()] if distill.hidden else None,
            "relations": [distill.relation_layer] if distill.relations else None,
        }

    def _wanted(self, teacher: Any) -> Any:
        from optimize.build.logits import Wanted
        from optimize.build.student import layer_stack, student_depth
        from optimize.build.taps import mapped_layers

        distill = self.settings.distill
        hidden: tuple[int, ...] = ()
        relations: int | None = None
        if distill.hidden:
            depth = student_depth(self.settings.student, teacher)
            hidden = mapped_layers(depth, len(layer_stack(teacher)[2]))
        if distill.relations:
            relations = distill.relation_layer or len(layer_stack(teacher)[2])
        return Wanted(hidden, relations)

    def student(self) -> Path:
        """The distilled student."""
        return self._student("student", self.settings.distill, self.logits())

    def undistilled(self) -> Path:
        """The same student from the labels alone, on as many examples: what distilling is worth."""
        from optimize.build.transfer import TransferSet

        settings = self.settings.distill
        examples = settings.epochs * len(TransferSet(self.transfer()))
        alone = DistillSettings.model_validate(
            {
                **settings.model_dump(include=set(TeacherSettings.model_fields)),
                "epochs": max(1, round(examples / len(self.splits.train))),
            }
        )
        return self._student(UNDISTILLED, alone, None)

    def _student(self, name: str, distill: DistillSettings, store: Path | None) -> Path:
        student = self.settings.student
        teacher, texts = self.teacher(), self.transfer()
        own = student.checkpoint != "teacher"
        parts = {
            "student": student.model_dump(exclude={"checkpoint", "revision"}),
            # Whether a control is trained beside it does not change the student.
            "distill": distill.model_dump(exclude={"control"}),
            "checkpoint": checkpoint.digest(student.checkpoint, student.revision)
            if own
            else self.keys["teacher"],
            "teacher": self.keys["teacher"] if store else None,
            "logits": self.keys["teacher-logits"] if store else None,
            "data": self.seen,
            "length": self.settings.teacher.max_length,
        }

        def make(result: Path, work: Path) -> None:
            from optimize.build.distill import distill as train
            from optimize.build.student import make_student, parameter_count

            names = self.splits.label_names
            pair = make_student(student, str(teacher), names, distill.seed)
            self.tell(f"{name}: {parameter_count(pair[0]):,} parameters")
            length = self.settings.teacher.max_length
            lessons = self.lessons(pair[1], texts, store, work / "tokens", kin=not own)
            train(
                distill,
                pair,
                lessons,
                self.splits.validation,
                length,
                self._run(work),
            )
            made_by = {"student": student.model_dump(), "distill": parts["distill"]}
            self._save(*pair, result, read_manifest(teacher).recipe | made_by)

        modules = ("distill.py", "projections.py", "taps.py", "student.py", *TRAIN_MODULES)
        return self.stage(name, parts, modules, TRAIN_LIBRARIES, make, together=True)

    def lessons(
        self, tokenizer: Any, texts: Path, store: Path | None, folder: Path, *, kin: bool
    ) -> Any:
        """What a student learns from: the transfer set, or the labels alone without a store."""
        from optimize.build.lessons import Lessons
        from optimize.build.logits import Targets
        from optimize.build.tokens import tokenise_once
        from optimize.build.transfer import TransferSet

        transfer = TransferSet(texts)
        learned = transfer.texts() if store else iter(self.splits.train.texts)
        labels = transfer.labels if store else self.splits.train.labels
        length = self.settings.teacher.max_length
        tokens = tokenise_once(learned, tokenizer, length, folder, self.processes)
        return Lessons(tokens, labels, Targets.read(store) if store else None, kin)

    def _run(self, work: Path) -> Any:
        from optimize.build.training import Run

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
