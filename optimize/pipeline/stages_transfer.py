"""The stages of what the student learns from: the transfer set, and the teacher's answers to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optimize.bundle.manifest import FileEntry
from optimize.models import checkpoint
from optimize.models.folder import TRAIN_LIBRARIES
from optimize.pipeline.stages import TeacherStages

SCORE_MODULES = (
    "distill/teacher_outputs.py",
    "training/soft_targets.py",
    "models/activations.py",
    "models/encoder.py",
    "models/attention.py",
    "training/tokens.py",
    "training/batches.py",
    "data/arrays.py",
    "distill/student.py",
    "models/checkpoint.py",
)


class TransferStages(TeacherStages):
    """The stages up to what the teacher said; arguments as for :class:`TeacherStages`."""

    def generated(self) -> Path | None:
        """Texts that a language model writes for the transfer set, where the recipe names one."""
        settings = self.settings.generate
        if settings.checkpoint is None:
            return None
        parts = {
            "settings": settings.model_dump(exclude={"checkpoint", "revision"}),
            "checkpoint": checkpoint.digest(settings.checkpoint, settings.revision),
            "data": self.seen,
            "length": self.settings.teacher.max_length,
        }

        def make(result: Path, work: Path) -> None:
            from optimize.data.transfer_set import TEXTS_NAME, write_texts
            from optimize.distill.generate import Writer
            from optimize.models.language_model import GenerateError

            if self.processes.count > 1:
                # Trainer would wait for the others, who wait for this stage.
                raise GenerateError(
                    f"{self.processes.count} processes cannot write texts together; run "
                    "`optimize build` alone until it says 'generated: built', then launch them"
                )
            writer = Writer(
                settings,
                self.splits.train,
                self.splits.label_names,
                self.settings.teacher.max_length,
                self.tell,
            )
            writer.learn(work)
            count = write_texts(result / TEXTS_NAME, writer.texts())
            self.tell(f"generated: {count} texts")

        modules = (
            "distill/generate.py",
            "models/language_model.py",
            "data/transfer_set.py",
            "data/arrays.py",
            "models/checkpoint.py",
        )
        return self.stage("generated", parts, modules, TRAIN_LIBRARIES, make)

    def transfer(self) -> Path:
        """The texts that the student learns from."""
        settings = self.settings.distill
        replaces = settings.augment > 0 and "replace" in settings.augment_kinds
        teacher = self.teacher() if replaces else None
        generated = self.generated()
        file = Path(settings.transfer) if settings.transfer else None
        parts = {
            "data": self.seen,
            "augment": [settings.augment, settings.augment_kinds, settings.seed],
            "embeddings": self.keys["teacher"] if replaces else None,
            "generated": self.keys.get("generated"),
            "transfer": FileEntry.of(file).sha256 if file and file.is_file() else settings.transfer,
            "column": self.settings.data.text_column,
        }

        def make(result: Path, work: Path) -> None:
            from optimize.data.transfer_set import TEXTS_NAME, read_texts, write_transfer_set
            from optimize.models.embeddings import word_replacements

            words = None
            if teacher is not None:
                model = checkpoint.load_classifier(str(teacher))
                tokenizer = checkpoint.load_tokenizer(str(teacher))
                words = word_replacements(self.splits.train.texts, model, tokenizer)
            more = () if generated is None else read_texts(generated / TEXTS_NAME)
            found = write_transfer_set(
                self.splits, settings, self.settings.data, result, words, more
            )
            self.tell(f"transfer: {len(found)} texts, {len(self.splits.train)} of them labelled")

        modules = (
            "data/transfer_set.py",
            "data/augment.py",
            "data/sources.py",
            "models/embeddings.py",
        )
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
            from optimize.data.transfer_set import TransferSet
            from optimize.distill import teacher_outputs as logits
            from optimize.training.soft_targets import STORE_NAME

            transfer = TransferSet(texts)
            if teacher is None:
                names = self.splits.label_names
                store = result / STORE_NAME
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

        modules = (*SCORE_MODULES, "data/folds.py")
        return self.stage("teacher-logits", parts, modules, TRAIN_LIBRARIES, make, together=True)

    def _score(self, teacher: Path, texts: Any, result: Path, work: Path) -> None:
        from optimize.distill.teacher_outputs import score
        from optimize.training.tokens import tokenise_once

        model = checkpoint.load_classifier(str(teacher))
        tokenizer = checkpoint.load_tokenizer(str(teacher))
        length = self.settings.teacher.max_length
        tokens = tokenise_once(texts, tokenizer, length, work / "tokens", self.processes)
        score(model, tokens, result, self.tell, self._wanted(model), self.processes)

    def _cross_fit(self, transfer: Any, result: Path, work: Path) -> None:
        """Each fold's teacher answers for the training texts that it has not seen."""
        from optimize.data.folds import fold_rows
        from optimize.training.soft_targets import STORE_NAME, SoftTargets

        folds, train = self.settings.distill.folds, self.splits.train
        for fold in range(folds):
            rows = fold_rows(len(train), fold, folds)
            place = work / f"fold{fold}"
            place.mkdir(parents=True, exist_ok=True)
            scorer = self._teacher(f"teacher-fold{fold}", self.settings.teacher, fold)
            self._score(scorer, [train.texts[row] for row in rows], place, place)
            if self.processes.first:
                SoftTargets.read(result).logits[rows] = SoftTargets.read(place).logits[:]
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
        from optimize.distill.projections import mapped_layers
        from optimize.distill.student import student_depth
        from optimize.distill.teacher_outputs import Wanted
        from optimize.models.encoder import layer_stack

        distill = self.settings.distill
        hidden: tuple[int, ...] = ()
        relations: int | None = None
        if distill.hidden:
            depth = student_depth(self.settings.student, teacher)
            hidden = mapped_layers(depth, len(layer_stack(teacher)[2]))
        if distill.relations:
            relations = distill.relation_layer or len(layer_stack(teacher)[2])
        return Wanted(hidden, relations)
