"""The stages that train a student."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optimize.build import checkpoint
from optimize.build.folders import TRAIN_LIBRARIES
from optimize.build.stages import TRAIN_MODULES
from optimize.build.stages_transfer import TransferStages
from optimize.runtime import read_manifest
from optimize.settings import UNDISTILLED, DistillSettings, TeacherSettings


class TrainingStages(TransferStages):
    """All stages that train; arguments as for :class:`TransferStages`."""

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
