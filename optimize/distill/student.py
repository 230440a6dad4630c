"""The student: a checkpoint or chosen layers of the teacher, and what it learns from."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast, set_seed

from optimize.bundle.folder import read_manifest
from optimize.data.misspell import misspelt_copies
from optimize.data.splits import Split, TrainingData
from optimize.data.transfer_set import TransferSet
from optimize.distill.feed_forward import narrow_feed_forward
from optimize.distill.heads import prune_heads
from optimize.distill.static import check_static_width, static_student
from optimize.distill.trainer import train_student
from optimize.distill.vocabulary import prune_vocabulary
from optimize.distill.width import narrow_width
from optimize.models.checkpoint import load_backbone, load_classifier, load_tokenizer
from optimize.models.encoder import classification_head, keep_layers, parameter_count, set_dropout
from optimize.models.mean_pooled_bert import mean_pooled
from optimize.models.observe import observed
from optimize.problems import SINGLE_LABEL, ProblemType
from optimize.settings.training import DistillSettings, StudentSettings, TrainingSettings
from optimize.training.dataset import TrainingSet
from optimize.training.run import Run
from optimize.training.save import save_trained
from optimize.training.soft_targets import SoftTargets
from optimize.training.tokens import tokenise_once

# Of a head's weights, where a configuration does not say: BERT's.
INITIALIZER_RANGE = 0.02

# Of a static student, where its settings say nothing.
STATIC_DROPOUT, STATIC_WIDTH = 0.1, 256


class Learning(NamedTuple):
    """How a student learns.

    Attributes:
        student: what it is made of.
        distill: losses and training.
        max_length: longest input in tokens.
    """

    student: StudentSettings
    distill: DistillSettings
    max_length: int


def build_student(
    result: Path,
    run: Run,
    *,
    student: StudentSettings,
    distill: DistillSettings,
    max_length: int,
    data: TrainingData,
    teacher: Path,
    transfer_set: Path,
    outputs: Path | None = None,
) -> None:
    """The stage: a trained student.

    Args:
        result: folder to fill.
        run: where it works, with whom, and who is told.
        student: what it is made of.
        distill: losses and training.
        max_length: longest input in tokens.
        data: its labelled texts, and the split that chooses the epoch.
        teacher: folder of the teacher.
        transfer_set: folder of the texts.
        outputs: folder of what the teacher said of them. Without it the student learns from the
            labels alone, on as many examples: what distilling is worth.

    Raises:
        StudentError: the student cannot be made so.
        DistillError: a loss asks for what the outputs do not hold.
    """
    texts = TransferSet(transfer_set)
    if outputs is None:
        distill = labels_alone(distill, len(data.train), len(texts))
    learning = Learning(student, distill, max_length)
    pair = shaped_student(learning, str(teacher), texts, data, run)
    training_set = student_training_set(
        pair[1], data.train, texts, outputs, learning, run, pairs=data.pairs
    )
    validation = data.validation
    train_student(distill, pair, training_set, validation, max_length, run, pairs=data.pairs)
    own = {"student": student.model_dump(), "distill": distill.model_dump(exclude={"control"})}
    _save(pair, result, run, data, max_length, read_manifest(teacher).recipe | own)


def build_shape(
    result: Path,
    run: Run,
    *,
    student: StudentSettings,
    max_length: int,
    data: TrainingData,
    teacher: Path,
    transfer_set: Path,
) -> None:
    """The stage: a student that has learned nothing yet, to see how large and fast it will be.

    Args:
        result: folder to fill.
        run: where it works, with whom, and who is told.
        student: what it is made of.
        max_length: longest input in tokens.
        data: its labels and texts.
        teacher: folder of the teacher.
        transfer_set: folder of the texts.

    Raises:
        StudentError: the student cannot be made so.
    """
    learning = Learning(student, DistillSettings(), max_length)
    pair = shaped_student(learning, str(teacher), TransferSet(transfer_set), data, run)
    own = {"student": student.model_dump()}
    _save(pair, result, run, data, max_length, read_manifest(teacher).recipe | own)


def _save(
    pair: tuple[PreTrainedModel, PreTrainedTokenizerFast],
    result: Path,
    run: Run,
    data: TrainingData,
    max_length: int,
    recipe: dict[str, Any],
) -> None:
    save_trained(
        *pair,
        result,
        run.processes,
        labels=data.label_names,
        max_length=max_length,
        problem_type=data.problem_type,
        text_pair=data.pairs,
        inputs={"data": data.key_part},
        recipe=recipe,
    )


def shaped_student(
    learning: Learning, teacher: str, texts: TransferSet, data: TrainingData, run: Run
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A student of the shape that is asked for, and its tokenizer, before it learns.

    Args:
        learning: how it is to learn.
        teacher: folder of the teacher.
        texts: those that it will learn from.
        data: has the labels.
        run: is told.
    """
    student, seed = learning.student, learning.distill.seed
    pair = make_student(student, teacher, data.label_names, seed, data.problem_type)
    shrink(pair, learning, texts, data, run)
    if student.shape == "static":
        dropout = STATIC_DROPOUT if student.dropout is None else student.dropout
        if student.width is not None:
            check_static_width(pair[0], student.width)
        width = student.width or STATIC_WIDTH
        pair = (static_student(*pair, texts.texts(), width, dropout), pair[1])
        if learning.distill.freeze_embeddings:
            run.tell(
                "its vectors will not learn, and they are most of it: "
                "distill.freeze_embeddings = false lets them"
            )
    run.tell(f"{parameter_count(pair[0]):,} parameters")
    return pair


def shrink(
    pair: tuple[PreTrainedModel, PreTrainedTokenizerFast],
    learning: Learning,
    transfer_set: TransferSet,
    data: TrainingData,
    run: Run,
) -> None:
    """Make a student smaller as its settings ask, in place.

    Args:
        pair: the student and its tokenizer.
        learning: how it learns.
        transfer_set: the texts whose tokens are kept.
        data: activations are read on its training texts; the effect is told on validation.
        run: is told.
    """
    model, tokenizer = pair
    asked = learning.student
    answering = partial(
        observed, model, tokenizer, data.train.texts, learning.max_length, text_pairs=data.pairs
    )
    if asked.vocabulary is not None:
        found = prune_vocabulary(
            model, tokenizer, transfer_set.texts(), asked.vocabulary, data.validation.texts
        )
        run.tell(
            f"{found.tokens:,} of {found.before:,} tokens kept; {100 * found.respelt:.2f} % of the "
            "validation texts' tokens are spelt with others"
        )
    if asked.shape == "static":  # of an encoder it takes the vectors alone
        return
    if asked.feed_forward is not None:
        before = narrow_feed_forward(model, answering(), asked.feed_forward)
        run.tell(f"{asked.feed_forward:,} of {before:,} neurons of each feed-forward kept")
    if asked.width is not None:
        share = narrow_width(model, answering(), asked.width)
        run.tell(
            f"hidden states of {asked.width:,} values keep {100 * share:.1f} % of their variance"
        )
    if asked.heads is not None:
        before = prune_heads(model, answering(), asked.heads)
        run.tell(f"{asked.heads} of {before} heads of each layer's attention kept")


def labels_alone(distill: DistillSettings, labelled: int, texts: int) -> DistillSettings:
    """The settings of a student without teacher that sees as many examples.

    Args:
        distill: those of the student with one.
        labelled: texts with a label.
        texts: all texts of the transfer set.
    """
    copies = distill.misspelt * labelled
    examples = distill.epochs * (texts + copies)
    shared = distill.model_dump(include={*TrainingSettings.model_fields, "misspelt"})
    epochs = max(1, round(examples / (labelled + copies)))
    return DistillSettings.model_validate({**shared, "epochs": epochs})


def student_training_set(
    tokenizer: PreTrainedTokenizerFast,
    labelled: Split,
    transfer_set: TransferSet,
    outputs: Path | None,
    learning: Learning,
    run: Run,
    *,
    pairs: bool = False,
) -> TrainingSet:
    """What a student learns from: the transfer set, or the labelled texts where no teacher speaks.

    Misspelt copies of the labelled texts come last.

    Args:
        tokenizer: the student's.
        labelled: the training texts, which are the transfer set's first.
        transfer_set: all texts that a teacher has spoken of.
        outputs: folder of what it said, if it did.
        learning: how the student learns.
        run: where tokens are written.
        pairs: whether each text is a pair.
    """
    distill = learning.distill
    learned = transfer_set.texts() if outputs else iter(labelled.texts)
    labels = transfer_set.labels if outputs else labelled.labels
    copies = misspelt_copies(labelled.texts, distill.misspelt, distill.seed)
    tokens = tokenise_once(
        chain(learned, copies), tokenizer, learning.max_length, run.work / "tokens",
        run.processes, pairs=pairs,
    )  # fmt: skip
    return TrainingSet(
        tokens,
        labels,
        SoftTargets.read(outputs) if outputs else None,
        same_origin=_same_origin(learning.student),
        sources=np.r_[: len(labels), np.tile(np.r_[: len(labelled)], distill.misspelt)],
    )


def _same_origin(student: StudentSettings) -> bool:
    """Whether its states mean what the teacher's do: another pooling or encoder is learnt anew."""
    own = (student.shape, student.pooling) != ("encoder", None)
    return student.checkpoint == "teacher" and not own


def make_student(
    settings: StudentSettings,
    teacher: str,
    label_names: Sequence[str],
    seed: int,
    problem_type: ProblemType = SINGLE_LABEL,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Initialise the student.

    Args:
        settings: checkpoint and layers.
        teacher: folder of the fine-tuned teacher; ``checkpoint = "teacher"`` starts from it.
        label_names: class names, for a checkpoint that has no head for them yet.
        seed: for the weights of a new head.
        problem_type: of such a head.

    Raises:
        StudentError: it has not those layers, or cannot be pooled so.
    """
    set_seed(seed)
    if settings.checkpoint == "teacher":
        model, tokenizer = load_classifier(teacher), load_tokenizer(teacher)
    else:
        model = load_backbone(settings.checkpoint, label_names, settings.revision, problem_type)
        tokenizer = load_tokenizer(settings.checkpoint, settings.revision)
    if settings.pooling == "mean":
        model = mean_pooled(model)
    keep_layers(model, settings.layers)
    if settings.new_head:
        _draw_anew(classification_head(model), model.config)
    if settings.dropout is not None:
        set_dropout(model, settings.dropout)
    return model, tokenizer


def _draw_anew(head: nn.Linear, config: Any) -> None:
    """A head as its family begins with; transformers 5 leaves one alone that was loaded."""
    with torch.no_grad():
        head.weight.normal_(0.0, getattr(config, "initializer_range", INITIALIZER_RANGE))
        if head.bias is not None:
            head.bias.zero_()
