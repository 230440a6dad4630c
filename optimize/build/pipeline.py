"""Runs the stages in order, each cached, and leaves a kit."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.build import checkpoint, data
from optimize.build.cache import StageCache, default_root, key_of, library_versions
from optimize.build.card import CARD_NAME, model_card
from optimize.build.folders import (
    EXPORT_LIBRARIES,
    TRAIN_LIBRARIES,
    derived,
    link,
    save_torch,
    write_texts,
)
from optimize.build.processes import Processes
from optimize.records import (
    KIT_NAME,
    MANIFEST_NAME,
    FileEntry,
    KitManifest,
    OutOfScope,
    write_json,
)
from optimize.runtime import MODEL_NAME, TOKENIZER_NAME, Classifier, read_manifest
from optimize.settings import DistillSettings, Settings, TeacherSettings

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
UNDISTILLED = "student-undistilled"


def build(
    settings: Settings,
    tell: Tell,
    cache_root: Path | None = None,
    profile: Profile | None = None,
) -> Path:
    """Build the kit that the settings describe, or find it in the cache.

    Under ``accelerate launch`` or ``torchrun`` the processes share the training and the scoring,
    and the first one writes.

    Args:
        settings: a whole recipe; its gates and judge tables do not touch the result.
        tell: told what is being done, a line at a time.
        cache_root: where stages are kept; by default the user's cache folder.
        profile: told where the time goes.

    Returns:
        The kit's folder. It belongs to the cache: copy it before changing it.
    """
    return Stages(settings, tell, cache_root, profile).kit()


class Stages:
    """One run over the stages; every stage's method returns its folder, built or found.

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

    def _stage(
        self,
        name: str,
        parts: Mapping[str, Any],
        modules: Sequence[str],
        libraries: Sequence[str],
        make: Callable[[Path, Path], None],
        *,
        together: bool = False,
    ) -> Path:
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
        return self._stage(name, parts, modules, TRAIN_LIBRARIES, make, together=True)

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
        return self._stage("transfer", parts, modules, ("tokenizers",), make)

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
        return self._stage("teacher-logits", parts, modules, TRAIN_LIBRARIES, make, together=True)

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
            "distill": distill.model_dump(),
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
        return self._stage(name, parts, modules, TRAIN_LIBRARIES, make, together=True)

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

    def exported(self, role: str, *, fuse: bool) -> Path:
        """A PyTorch model as ONNX, checked against it."""
        source = {"teacher": self.teacher, "student": self.student, UNDISTILLED: self.undistilled}[
            role
        ]()
        export = self.settings.export.model_copy(update={"fuse": fuse})
        parts = {"settings": export.model_dump(), "model": self.keys[role]}

        def make(result: Path, work: Path) -> None:
            from optimize.build.export import check_parity, export_onnx, versions

            model = checkpoint.load_classifier(str(source))
            export_onnx(model, result / MODEL_NAME, export)
            shutil.copy(source / TOKENIZER_NAME, result)
            opset, ir_version = versions(result / MODEL_NAME)
            manifest = derived(
                result,
                read_manifest(source),
                {"export": export.model_dump()},
                format="onnx",
                opset=opset,
                ir_version=ir_version,
            )
            texts = self.splits.validation.texts
            worst = check_parity(model, result, manifest, texts, export.parity_tolerance)
            self.tell(f"{role}: ONNX equals PyTorch within {worst:.1e}")
            write_json(manifest, result / MANIFEST_NAME)

        name = f"{role}-onnx" if fuse else f"{role}-onnx-plain"
        modules = ("export.py", "checkpoint.py")
        return self._stage(name, parts, modules, EXPORT_LIBRARIES, make)

    def quantized(self, recipe: str) -> Path:
        """The student in INT8, not calibrated yet."""
        # The wrapper of `optimum-dynamic` cannot quantize a fused graph (quantization.md, trap 2).
        fuse = self.settings.export.fuse and recipe != "optimum-dynamic"
        source = self.exported("student", fuse=fuse)
        upstream = "student-onnx" if fuse else "student-onnx-plain"
        parts = {"recipe": recipe, "model": self.keys[upstream]}

        def make(result: Path, work: Path) -> None:
            from optimize.build.quantize import RECIPES, quantize

            (known,) = [name for name in RECIPES if name == recipe]
            quantize(known, source / MODEL_NAME, result / MODEL_NAME)
            shutil.copy(source / TOKENIZER_NAME, result)
            own = {"quantize": {"recipe": recipe}}
            manifest = derived(result, read_manifest(source), own, quantization=recipe)
            write_json(manifest, result / MANIFEST_NAME)

        return self._stage(f"int8-{recipe}", parts, ("quantize.py",), EXPORT_LIBRARIES, make)

    def teacher_answers(self) -> Path:
        """The teacher's logits of the validation texts, which a student's bias is fitted to."""
        source = self.exported("teacher", fuse=self.settings.export.fuse)
        parts = {
            "model": self.keys[
                "teacher-onnx" if self.settings.export.fuse else "teacher-onnx-plain"
            ],
            "data": self.seen,
        }

        def make(result: Path, work: Path) -> None:
            import numpy as np

            classifier = Classifier(source)
            np.save(result / "logits.npy", classifier.logits(self.splits.validation.texts))

        return self._stage("teacher-answers", parts, (), EXPORT_LIBRARIES, make)

    def calibrated(self, source: Path, key: str, like: Path | None = None) -> Path:
        """A student with what was fitted on the validation split in its manifest.

        Args:
            source: its folder.
            key: name of the stage that made it.
            like: the ONNX model of the same weights that stands in for a PyTorch one.
        """
        settings, label = self.settings.calibrate, self.settings.data.out_of_scope_label
        answers = self.teacher_answers()
        parts = {
            "settings": settings.model_dump(),
            "label": label,
            "model": self.keys[key],
            "answers": self.keys["teacher-answers"],
            "data": self.seen,
        }

        def make(result: Path, work: Path) -> None:
            import numpy as np

            from optimize.build.calibrate import fit

            manifest = read_manifest(source)
            classifier = Classifier(like or source)
            # INT8 as it is served, one by one; a batch would share its scales.
            size = 1 if manifest.quantization else 32
            validation = self.splits.validation
            found = fit(
                classifier.logits(validation.texts, batch_size=size),
                validation.labels,
                temperature=settings.temperature,
                out_of_scope=None if label is None else self.splits.label_names.index(label),
                teacher_answers=np.load(answers / "logits.npy").argmax(axis=1),
                match=settings.out_of_scope,
            )
            for name in manifest.files:
                link(str(source / name), str(result / name))
            rule = None if label is None else OutOfScope(label=label, bias=found.bias)
            fitted = manifest.model_copy(
                update={
                    "temperature": found.temperature,
                    "out_of_scope": rule,
                    "inputs": manifest.inputs
                    | {"calibration": self.splits.digest_of("validation")},
                    "recipe": manifest.recipe | {"calibrate": settings.model_dump()},
                }
            )
            write_json(fitted, result / MANIFEST_NAME)
            if fitted.quantization:
                (result / CARD_NAME).write_text(model_card(fitted), encoding="utf-8")

        modules = ("calibrate.py", "card.py")
        return self._stage(f"calibrated-{key}", parts, modules, ("scipy", "onnxruntime"), make)

    def variants(self) -> dict[str, Path]:
        """Every variant's folder, by name."""
        quantize, fuse = self.settings.quantize, self.settings.export.fuse
        onnx = self.exported("student", fuse=fuse)
        onnx_key = "student-onnx" if fuse else "student-onnx-plain"
        found = {
            "teacher-torch": self.teacher(),
            "teacher-onnx": self.exported("teacher", fuse=fuse),
            "student-torch": self.calibrated(self.student(), "student", like=onnx),
            "student-onnx": self.calibrated(onnx, onnx_key),
            "student-int8": self._int8(quantize.recipe),
        }
        if quantize.compare != "none":
            found["student-int8-compared"] = self._int8(quantize.compare)
        if self.settings.distill.control:
            alone = self.exported(UNDISTILLED, fuse=fuse)
            key = f"{UNDISTILLED}-onnx" if fuse else f"{UNDISTILLED}-onnx-plain"
            found[UNDISTILLED] = self.calibrated(alone, key)
        return found

    def _int8(self, recipe: str) -> Path:
        return self.calibrated(self.quantized(recipe), f"int8-{recipe}")

    def kit(self) -> Path:
        """Every variant and the texts that they are judged on."""
        variants = self.variants()
        settings = self.settings.model_dump(mode="json")
        parts = {
            "settings": settings,
            "data": self.splits.digest,
            "variants": {
                name: FileEntry.of(path / MANIFEST_NAME).sha256 for name, path in variants.items()
            },
        }

        def make(result: Path, work: Path) -> None:
            for name, folder in variants.items():
                shutil.copytree(folder, result / name, copy_function=link)
            files = write_texts(self.splits, result)
            manifest = KitManifest(
                recipe=self.settings.name,
                settings=settings,
                labels=self.splits.label_names,
                variants={name: name for name in variants},
                manifests=parts["variants"],
                splits=files,
                files={path: FileEntry.of(result / path) for path in files.values()},
                inputs={"data": self.splits.digest},
                libraries=library_versions(EXPORT_LIBRARIES),
            )
            write_json(manifest, result / KIT_NAME)

        return self._stage("kit", parts, ("pipeline.py", "folders.py"), ("pydantic",), make)

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
