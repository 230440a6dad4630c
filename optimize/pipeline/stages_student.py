"""The stages that train a student."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from optimize.bundle.folder import read_manifest
from optimize.models import checkpoint
from optimize.models.folder import TRAIN_LIBRARIES
from optimize.pipeline.stages import TRAIN_MODULES
from optimize.pipeline.stages_transfer import TransferStages
from optimize.settings.recipe import UNDISTILLED
from optimize.settings.training import DistillSettings, TeacherSettings


class TrainingStages(TransferStages):
    """All stages that train; arguments as for :class:`TransferStages`."""

    def student(self) -> Path:
        """The distilled student."""
        return self._student("student", self.settings.distill, self.logits())

    def undistilled(self) -> Path:
        """The same student from the labels alone, on as many examples: what distilling is worth."""
        from optimize.data.transfer_set import TransferSet

        settings, labelled = self.settings.distill, len(self.splits.train)
        copies = settings.misspelt * labelled
        examples = settings.epochs * (len(TransferSet(self.transfer())) + copies)
        alone = DistillSettings.model_validate(
            {
                **settings.model_dump(include={*TeacherSettings.model_fields, "misspelt"}),
                "epochs": max(1, round(examples / (labelled + copies))),
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
            from optimize.distill.student import make_student
            from optimize.distill.trainer import distill as train
            from optimize.models.encoder import parameter_count

            names = self.splits.label_names
            pair = make_student(student, str(teacher), names, distill.seed)
            self.tell(f"{name}: {parameter_count(pair[0]):,} parameters")
            length = self.settings.teacher.max_length
            training_set = self.training_set(pair[1], texts, store, work / "tokens", distill)
            train(
                distill,
                pair,
                training_set,
                self.splits.validation,
                length,
                self._run(work),
            )
            made_by = {"student": student.model_dump(), "distill": parts["distill"]}
            self._save(*pair, result, read_manifest(teacher).recipe | made_by)

        modules = (
            "distill/trainer.py",
            "distill/projections.py",
            "distill/student.py",
            "models/activations.py",
            "models/mean_pooled_bert.py",
            "data/misspell.py",
            *TRAIN_MODULES,
        )
        return self.stage(name, parts, modules, TRAIN_LIBRARIES, make, together=True)

    def training_set(
        self,
        tokenizer: Any,
        texts: Path,
        store: Path | None,
        folder: Path,
        distill: DistillSettings,
    ) -> Any:
        """What a student learns from: the transfer set, or the labels alone without a store.

        Misspelt copies of the labelled texts come last.
        """
        from optimize.data.misspell import misspelt_copies
        from optimize.data.transfer_set import TransferSet
        from optimize.training.dataset import TrainingSet
        from optimize.training.soft_targets import SoftTargets
        from optimize.training.tokens import tokenise_once

        transfer, labelled = TransferSet(texts), self.splits.train
        learned = transfer.texts() if store else iter(labelled.texts)
        labels = transfer.labels if store else labelled.labels
        copies = misspelt_copies(labelled.texts, distill.misspelt, distill.seed)
        tokens = tokenise_once(
            chain(learned, copies),
            tokenizer,
            self.settings.teacher.max_length,
            folder,
            self.processes,
        )
        return TrainingSet(
            tokens,
            labels,
            SoftTargets.read(store) if store else None,
            same_origin=self.settings.student.checkpoint == "teacher",
            # The labelled texts are the transfer set's first.
            sources=np.r_[: len(labels), np.tile(np.r_[: len(labelled)], distill.misspelt)],
        )
