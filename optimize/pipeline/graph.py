"""Runs the stages in order, each cached, and leaves a kit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from optimize.bundle.classifier import Classifier
from optimize.bundle.folder import MODEL_NAME, TOKENIZER_NAME, read_manifest
from optimize.bundle.manifest import (
    KIT_NAME,
    MANIFEST_NAME,
    FileEntry,
    KitManifest,
    OutOfScope,
    write_json,
)
from optimize.models import checkpoint
from optimize.models.folder import EXPORT_LIBRARIES, derived, library_versions, link
from optimize.pipeline.kit import write_texts
from optimize.pipeline.stages import Tell
from optimize.pipeline.stages_student import TrainingStages
from optimize.quantize.card import CARD_NAME, model_card
from optimize.settings.recipe import UNDISTILLED, Settings

if TYPE_CHECKING:
    from optimize.training.profile import Profile


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


class Stages(TrainingStages):
    """All stages: those that train, and what is made of the trained models."""

    def exported(self, role: str, *, fuse: bool) -> Path:
        """A PyTorch model as ONNX, checked against it."""
        source = {"teacher": self.teacher, "student": self.student, UNDISTILLED: self.undistilled}[
            role
        ]()
        export = self.settings.export.model_copy(update={"fuse": fuse})
        parts = {"settings": export.model_dump(), "model": self.keys[role]}

        def make(result: Path, work: Path) -> None:
            from optimize.quantize.export import export_onnx, versions
            from optimize.quantize.parity import check_parity

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

        name = self._onnx_key(role, fuse)
        modules = ("quantize/export.py", "quantize/parity.py", "models/checkpoint.py")
        return self.stage(name, parts, modules, EXPORT_LIBRARIES, make)

    def _onnx_key(self, role: str, fuse: bool | None = None) -> str:
        """Name of the stage that exports a role, by default fused as the settings say."""
        fuse = self.settings.export.fuse if fuse is None else fuse
        return f"{role}-onnx" if fuse else f"{role}-onnx-plain"

    def quantized(self, recipe: str) -> Path:
        """The student in INT8, not calibrated yet."""
        # The wrapper of `optimum-dynamic` cannot quantize a fused graph (quantization.md, trap 2).
        fuse = self.settings.export.fuse and recipe != "optimum-dynamic"
        source = self.exported("student", fuse=fuse)
        parts = {"recipe": recipe, "model": self.keys[self._onnx_key("student", fuse)]}

        def make(result: Path, work: Path) -> None:
            from optimize.quantize.int8 import RECIPES, quantize

            (known,) = [name for name in RECIPES if name == recipe]
            quantize(known, source / MODEL_NAME, result / MODEL_NAME)
            shutil.copy(source / TOKENIZER_NAME, result)
            own = {"quantize": {"recipe": recipe}}
            manifest = derived(result, read_manifest(source), own, quantization=recipe)
            write_json(manifest, result / MANIFEST_NAME)

        return self.stage(f"int8-{recipe}", parts, ("quantize/int8.py",), EXPORT_LIBRARIES, make)

    def teacher_answers(self) -> Path:
        """The teacher's logits of the validation texts, which a student's bias is fitted to."""
        source = self.exported("teacher", fuse=self.settings.export.fuse)
        parts = {"model": self.keys[self._onnx_key("teacher")], "data": self.seen}

        def make(result: Path, work: Path) -> None:
            import numpy as np

            classifier = Classifier(source)
            np.save(result / "logits.npy", classifier.logits(self.splits.validation.texts))

        return self.stage("teacher-answers", parts, (), EXPORT_LIBRARIES, make)

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

            from optimize.quantize.calibrate import fit

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
            fitted = msgspec.structs.replace(
                manifest,
                temperature=found.temperature,
                out_of_scope=rule,
                inputs=manifest.inputs | {"calibration": self.splits.digest_of("validation")},
                recipe=manifest.recipe | {"calibrate": settings.model_dump()},
            )
            write_json(fitted, result / MANIFEST_NAME)
            if fitted.quantization:
                (result / CARD_NAME).write_text(model_card(fitted), encoding="utf-8")

        modules = ("quantize/calibrate.py", "quantize/card.py")
        return self.stage(f"calibrated-{key}", parts, modules, ("scipy", "onnxruntime"), make)

    def variants(self) -> dict[str, Path]:
        """Every variant's folder, by name."""
        quantize, fuse = self.settings.quantize, self.settings.export.fuse
        onnx = self.exported("student", fuse=fuse)
        found = {
            "teacher-torch": self.teacher(),
            "teacher-onnx": self.exported("teacher", fuse=fuse),
            "student-torch": self.calibrated(self.student(), "student", like=onnx),
            "student-onnx": self.calibrated(onnx, self._onnx_key("student")),
            "student-int8": self._int8(quantize.recipe),
        }
        if quantize.compare != "none":
            found["student-int8-compared"] = self._int8(quantize.compare)
        if self.settings.distill.control:
            alone = self.exported(UNDISTILLED, fuse=fuse)
            found[UNDISTILLED] = self.calibrated(alone, self._onnx_key(UNDISTILLED))
        return found

    def _int8(self, recipe: str) -> Path:
        return self.calibrated(self.quantized(recipe), f"int8-{recipe}")

    def kit(self) -> Path:
        """Every variant and the texts that they are judged on."""
        variants = self.variants()
        settings = self.settings.model_dump(mode="json")
        manifests = {
            name: FileEntry.of(path / MANIFEST_NAME).sha256 for name, path in variants.items()
        }
        parts = {"settings": settings, "data": self.splits.digest, "variants": manifests}

        def make(result: Path, work: Path) -> None:
            for name, folder in variants.items():
                shutil.copytree(folder, result / name, copy_function=link)
            files = write_texts(self.splits, result)
            manifest = KitManifest(
                recipe=self.settings.name,
                settings=settings,
                labels=self.splits.label_names,
                variants={name: name for name in variants},
                manifests=manifests,
                splits=files,
                files={path: FileEntry.of(result / path) for path in files.values()},
                inputs={"data": self.splits.digest},
                libraries=library_versions(EXPORT_LIBRARIES),
            )
            write_json(manifest, result / KIT_NAME)

        return self.stage(
            "kit",
            parts,
            ("pipeline/graph.py", "pipeline/kit.py", "models/folder.py"),
            ("msgspec",),
            make,
        )
