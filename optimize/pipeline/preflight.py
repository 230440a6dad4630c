"""What can be known to fail before anything trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from optimize.data.splits import Splits
from optimize.judge.checks import too_few
from optimize.judge.statistics.accuracy import distinct_rows
from optimize.pipeline.graph import has_teacher_onnx, own_texts
from optimize.settings.recipe import Settings
from optimize.settings.training import StudentSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def preflight(settings: Settings) -> PreTrainedTokenizerFast | None:
    """Hold the recipe's checkpoints against its settings.

    Returns:
        The teacher's tokenizer; nothing where the recipe has no teacher.

    Raises:
        CheckpointError: one that does not fit; see :func:`optimize.models.fit.check_fit`.
        StudentError: a student that cannot be cut out of its checkpoint.
        DataError: texts of the user's own that cannot be read.
    """
    if not settings.builds_chain:
        return None
    from optimize.distill.vocabulary import check_vocabulary
    from optimize.models.checkpoint import load_config
    from optimize.models.fit import check_exportable, check_fit, check_onnx_size

    teacher, student = settings.teacher, settings.student
    source = teacher if student.checkpoint == "teacher" else student
    length, own = teacher.max_length, student.checkpoint != "teacher"
    tokenizer = check_fit(
        teacher.checkpoint,
        teacher.revision,
        length,
        fine_tuned=not teacher.fine_tune,
        layers=None if own else student.layers,
        problem_type=settings.data.problem_type,
    )
    of_student = tokenizer
    if own:
        of_student = check_fit(
            student.checkpoint,
            student.revision,
            length,
            fine_tuned=False,
            layers=student.layers,
            problem_type=settings.data.problem_type,
        )
    if has_teacher_onnx(settings):
        check_exportable(teacher.checkpoint, load_config(teacher.checkpoint, teacher.revision))
        check_onnx_size(teacher.checkpoint, teacher.revision)
    if student.shape != "static":
        check_exportable(source.checkpoint, load_config(source.checkpoint, source.revision))
        if student.is_whole:
            check_onnx_size(source.checkpoint, source.revision)
    if (own_ones := own_texts(settings)) is not None:
        own_ones.count  # noqa: B018 — read now, and not first when the teacher has trained
    if student.vocabulary is not None:
        check_vocabulary(of_student, student.vocabulary)
    _check_shape(student, source.checkpoint, source.revision)
    _check_learning(settings)
    return tokenizer


def _check_shape(student: StudentSettings, checkpoint: str, revision: str | None) -> None:
    """Refuse what cannot be cut out of a checkpoint.

    Raises:
        StudentError: it is of another family, or not so wide.
    """
    from optimize.distill.feed_forward import feed_forwards
    from optimize.distill.heads import check_heads
    from optimize.distill.static import check_static_width
    from optimize.distill.width import heads_kept
    from optimize.models.fit import shape_of

    if not any((student.feed_forward, student.width, student.heads)):
        return
    model = shape_of(checkpoint, revision)
    if student.shape == "static":
        if student.width is not None:
            check_static_width(model, student.width)
        return
    if student.feed_forward is not None:
        feed_forwards(model, student.feed_forward)
    if student.width is not None:
        heads_kept(model, student.width)
    if student.heads is not None:
        check_heads(model, student.heads, student.pooling, student.width)


def _check_learning(settings: Settings) -> None:
    """Refuse what cannot be learnt so, long before it would be: a student comes after its teacher.

    Raises:
        StudentError: the head, the layers or the queries that the settings ask for are not there.
        DistillError: relation heads that do not divide a width.
    """
    from optimize.distill.projections import check_relation_heads
    from optimize.models.activations import check_relations
    from optimize.models.encoder import classification_head, layer_stack
    from optimize.models.fit import shape_of
    from optimize.models.mean_pooled_bert import attention_width, check_poolable, head_size

    teacher, student, distill = settings.teacher, settings.student, settings.distill
    master = shape_of(teacher.checkpoint, teacher.revision)
    if teacher.fine_tune and teacher.layer_decay < 1:
        layer_stack(master)
    if student.shape == "static":
        return
    own = student.checkpoint != "teacher"
    pupil = shape_of(student.checkpoint, student.revision) if own else master
    if student.pooling == "mean":
        check_poolable(pupil)
    if distill.layer_decay < 1:
        layer_stack(pupil)
    for model in (pupil, master):
        if distill.hidden or distill.relations:
            layer_stack(model)
        if distill.pooled or distill.cosine:
            classification_head(model)
    if distill.relations:
        cut = [student.width, student.heads and student.heads * head_size(pupil.config)]
        ours = min([attention_width(pupil.config), *filter(None, cut)])
        check_relation_heads(distill.relation_heads, ours, attention_width(master.config))
        check_relations(pupil, None)
        check_relations(master, distill.relation_layer)


def undecidable(settings: Settings, splits: Splits) -> list[str]:
    """Gates that the judged split's texts cannot decide, whatever is answered, a sentence each."""
    judged = splits[settings.judge.split]
    # Of several labels a text, each set is one.
    sets = judged.labels.reshape(len(judged), -1)
    labels = np.unique(sets, axis=0, return_inverse=True)[1].reshape(-1)
    return too_few(len(distinct_rows(judged.texts, labels)), settings)
