"""The stages from data to kit, and what each is made of: read it from top to bottom.

Values are resolved here: what ``auto`` means on this machine, which texts a stage sees. Nothing is
built and nothing heavy is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from optimize.data.input_file import InputFile
from optimize.data.splits import Splits, TrainingData
from optimize.data.unlabelled import OwnTexts
from optimize.machine import isa_class, training_precision
from optimize.pipeline.own import own_variants
from optimize.pipeline.stage import Stage
from optimize.problems import MULTI_LABEL
from optimize.settings.judging import COMPARED, UNDISTILLED
from optimize.settings.quantization import QuantizationRecipe
from optimize.settings.recipe import Settings
from optimize.settings.training import StudentSettings, TrainingSettings

AnyTraining = TypeVar("AnyTraining", bound=TrainingSettings)


class StageError(ValueError):
    """A recipe that cannot be built here; the message gives the fact and the remedy."""


def graph(settings: Settings, splits: Splits) -> dict[str, Stage]:
    """Every stage that a recipe's kit is made of, by name, inputs before what reads them.

    Args:
        settings: a whole recipe.
        splits: its data, label ids in the order of the teacher's logits.

    Raises:
        StageError: the recipe needs what is not installed.
    """
    chain = _chain(settings, splits.training) if settings.builds_chain else {}
    kit = Stage(
        "kit",
        "optimize.pipeline.kit:build_kit",
        {"settings": settings.model_dump(mode="json"), "splits": splits},
        {**chain, **own_variants(settings, splits)},
    )
    return {stage.name: stage for stage in kit.walk()}


def _chain(settings: Settings, data: TrainingData) -> dict[str, Stage]:
    """From a checkpoint to a calibrated INT8 student: the variants that are built here."""
    teacher = _teacher("teacher", settings, data)
    transfer_set = _transfer_set(settings, data, teacher)
    outputs = _teacher_outputs(settings, data, teacher, transfer_set)
    student = _student("student", settings, data, teacher, transfer_set, outputs)

    fuse = settings.export.fuse
    # A teacher that cannot be exported stays in PyTorch, and its logits are asked there.
    exported = has_teacher_onnx(settings)
    teacher_onnx = _onnx(settings, data, teacher, fuse=fuse) if exported else teacher
    student_onnx = _onnx(settings, data, student, fuse=fuse)
    fitted = _Calibration(settings, data, teacher_onnx)
    # Where thresholds decide what is answered, the teacher has its own too: like with like.
    several = data.multi_label
    variants = {
        "teacher-torch": fitted.of(teacher, like=teacher_onnx) if several else teacher,
        "teacher-onnx": fitted.of(teacher_onnx) if several else teacher_onnx,
        "student-torch": fitted.of(student, like=student_onnx),
        "student-onnx": fitted.of(student_onnx),
        "student-int8": fitted.of(_int8(settings, data, student, settings.quantize.recipe)),
    }
    if not exported:
        del variants["teacher-onnx"]
    compared = settings.quantize.compare
    if compared != "none" and can_quantize(compared):
        variants[COMPARED] = fitted.of(_int8(settings, data, student, compared))
    if settings.distill.control:
        alone = _student(UNDISTILLED, settings, data, teacher, transfer_set, None)
        variants[UNDISTILLED] = fitted.of(_onnx(settings, data, alone, fuse=fuse))
    return variants


def has_teacher_onnx(settings: Settings) -> bool:
    """Whether the teacher is exported: where it is judged so, or has thresholds that are fitted."""
    several = settings.data.problem_type == MULTI_LABEL
    return several or "teacher-onnx" in settings.judged_variants


def shape_stage(settings: Settings, data: TrainingData) -> Stage:
    """The student in INT8 before it has learned anything: as large and as fast as it will be."""
    teacher = _teacher("teacher", settings, data)
    values = {
        "student": settings.student,
        "max_length": settings.teacher.max_length,
        "data": data,
    }
    inputs = {"teacher": teacher, "transfer_set": _transfer_set(settings, data, teacher)}
    make = "optimize.distill.student:build_shape"
    shape = Stage("shape", make, values, inputs, together=True)
    return _int8(settings, data, shape, settings.quantize.recipe)


def _teacher(
    name: str, settings: Settings, data: TrainingData, fold: tuple[int, int] | None = None
) -> Stage:
    """A fine-tuned teacher; with a fold, one that has not seen it."""
    values = {"settings": _resolved(settings.teacher), "data": data, "fold": fold}
    return Stage(name, "optimize.distill.teacher:build_teacher", values, together=True)


def _transfer_set(settings: Settings, data: TrainingData, teacher: Stage) -> Stage:
    """The texts that the student learns from."""
    distill = settings.distill
    inputs: dict[str, Stage] = {}
    if distill.augment and "replace" in distill.augment_kinds:
        inputs["replacements"] = Stage(
            "replacements",
            "optimize.distill.replacements:build_replacements",
            {"data": data},
            {"teacher": teacher},
        )
    if settings.generate.checkpoint is not None:
        inputs["generated"] = Stage(
            "generated",
            "optimize.distill.generate:build_generated",
            {
                "settings": settings.generate,
                "max_length": settings.teacher.max_length,
                "precision": training_precision("auto"),
                "data": data,
            },
        )
    values = {
        "data": data,
        "augment": distill.augment,
        "kinds": distill.augment_kinds,
        "seed": distill.seed,
        "own": own_texts(settings),
    }
    make = "optimize.data.transfer_set:build_transfer_set"
    return Stage("transfer-set", make, values, inputs)


def own_texts(settings: Settings) -> OwnTexts | None:
    """The user's texts without labels, where the recipe names some."""
    distill = settings.distill
    if not distill.transfer:
        return None
    return OwnTexts(distill.transfer, settings.data.text_column, distill.transfer_revision)


def _teacher_outputs(
    settings: Settings, data: TrainingData, teacher: Stage, transfer_set: Stage
) -> Stage:
    """What the teacher says of the transfer set."""
    name, distill = "teacher-outputs", settings.distill
    if settings.teacher.logits:
        values: Mapping[str, object] = {
            "data": data,
            "logits": InputFile(Path(settings.teacher.logits)),
        }
        make = "optimize.distill.teacher_outputs:build_imported_outputs"
        return Stage(name, make, values, {"transfer_set": transfer_set}, together=True)
    folds = {
        f"fold{fold}": _teacher(f"teacher-fold{fold}", settings, data, (fold, distill.folds))
        for fold in range(distill.folds)
    }
    values = {
        "data": data,
        "max_length": settings.teacher.max_length,
        "precision": training_precision(settings.teacher.precision),
        "student": _depth_of(settings.student) if distill.hidden else None,
        "relation_layer": (distill.relation_layer or 0) if distill.relations else None,
    }
    make = "optimize.distill.teacher_outputs:build_teacher_outputs"
    inputs = {"teacher": teacher, "transfer_set": transfer_set, **folds}
    return Stage(name, make, values, inputs, together=True)


def _depth_of(student: StudentSettings) -> StudentSettings:
    """What decides how many layers a student has, and nothing else of it."""
    fields = student.model_dump(include={"checkpoint", "revision", "layers"})
    return StudentSettings.model_validate(fields)


def _student(
    name: str,
    settings: Settings,
    data: TrainingData,
    teacher: Stage,
    transfer_set: Stage,
    outputs: Stage | None,
) -> Stage:
    """A trained student; without the teacher's outputs, one of the labels alone."""
    inputs = {"teacher": teacher, "transfer_set": transfer_set}
    if outputs is not None:
        inputs["outputs"] = outputs
    values = {
        "student": settings.student,
        "distill": _resolved(settings.distill),
        "max_length": settings.teacher.max_length,
        "data": data,
    }
    return Stage(name, "optimize.distill.student:build_student", values, inputs, together=True)


def _onnx(settings: Settings, data: TrainingData, model: Stage, *, fuse: bool) -> Stage:
    """A PyTorch model as ONNX."""
    export = settings.export.model_copy(update={"fuse": fuse})
    return Stage(
        f"{model.name}-onnx" if fuse else f"{model.name}-onnx-plain",
        "optimize.quantize.export:build_onnx",
        {"settings": export, "data": data},
        {"model": model},
    )


def _int8(
    settings: Settings, data: TrainingData, student: Stage, recipe: QuantizationRecipe
) -> Stage:
    """The student in INT8, not calibrated yet."""
    name, quantize = f"int8-{recipe}", settings.quantize
    # They are nodes of the model that is shipped: another recipe's graph has other names.
    exclude = quantize.exclude if recipe == quantize.recipe else ()
    if recipe == "ort-dynamic":
        model = _onnx(settings, data, student, fuse=settings.export.fuse)
        values = {"exclude": exclude, "embeddings": quantize.embeddings}
        return Stage(name, "optimize.quantize.int8:build_int8", values, {"model": model})
    if recipe == "ort-static":
        static = {
            "method": quantize.calibration,
            "texts": quantize.calibration_texts,
            "exclude": exclude,
            "data": data,
        }
        plain = _onnx(settings, data, student, fuse=False)
        make = "optimize.quantize.static_int8:build_static_int8"
        return Stage(name, make, static, {"model": plain})
    if not can_quantize(recipe):
        raise StageError(
            f"quantize.recipe = {recipe!r} needs optimum, which is not installed: "
            '`pip install "optimize[optimum]"`, or set quantize.recipe = "ort-dynamic"'
        )
    # Its wrapper cannot quantize a fused graph.
    export = settings.export.model_copy(update={"fuse": False})
    plain = Stage(
        f"{student.name}-onnx-optimum",
        "optimize.quantize.reference:build_reference_onnx",
        {"settings": export, "data": data},
        {"model": student},
    )
    make = "optimize.quantize.reference:build_reference_int8"
    return Stage(name, make, {}, {"model": plain})


def can_quantize(recipe: QuantizationRecipe) -> bool:
    """Whether what a recipe needs is installed."""
    if recipe != "optimum-dynamic":
        return True
    try:  # not by its folder: one that was taken away may leave an empty one
        metadata.version("optimum-onnx")
    except metadata.PackageNotFoundError:
        return False
    return True


class _Calibration:
    """What is fitted to validation, the same way for every form of the student."""

    def __init__(self, settings: Settings, data: TrainingData, teacher_onnx: Stage) -> None:
        isa = isa_class()
        self._values = {
            "settings": settings.calibrate,
            "out_of_scope_label": settings.data.out_of_scope_label,
            "data": data,
            "isa": isa,
        }
        self._logits = Stage(
            "teacher-validation-logits",
            "optimize.quantize.calibrate:build_validation_logits",
            {"data": data, "isa": isa},
            {"model": teacher_onnx},
        )

    def of(self, model: Stage, like: Stage | None = None) -> Stage:
        """A model, calibrated; ``like`` is the ONNX model of the same weights as a PyTorch one."""
        inputs = {"model": model, "teacher_logits": self._logits}
        if like is not None:
            inputs["like"] = like
        make = "optimize.quantize.calibrate:build_calibrated"
        return Stage(f"calibrated-{model.name}", make, self._values, inputs)


def _resolved(settings: AnyTraining) -> AnyTraining:
    """The same with the precision that ``auto`` means on this machine."""
    precision = training_precision(settings.precision)
    return settings.model_copy(update={"precision": precision})
