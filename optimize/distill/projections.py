"""What losses on inner states need on the student: hooks, and projections to other widths."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn
from transformers import PreTrainedModel

from optimize.data.arrays import Ragged
from optimize.models.activations import Activations
from optimize.models.encoder import layer_stack
from optimize.settings.training import DistillSettings
from optimize.training.dataset import TrainingSet
from optimize.training.soft_targets import SoftTargets
from optimize.training.tokens import Tokens


class DistillError(ValueError):
    """A loss that the stored targets or the two models do not allow; says which and why."""


def observe_student(
    student: PreTrainedModel, settings: DistillSettings, training_set: TrainingSet
) -> Activations | None:
    """Hooks for the losses on inner states, and on the student the projections that they need.

    Projections are parts of the student, so that optimizer and checkpoints know them. There is
    none where the student began as its teacher and the widths are equal: then states of both mean
    the same.

    Raises:
        DistillError: a loss asks for states that the targets do not hold or that do not fit.
    """
    targets = training_set.targets
    if targets is None or not settings.reads_representations:
        return None
    depth = len(layer_stack(student)[2]) if settings.hidden or settings.relations else 0
    hidden = tuple(range(1, depth + 1)) if settings.hidden else ()
    activations = Activations(student, hidden, depth if settings.relations else None)
    widths: dict[str, tuple[int, int]] = {}
    if settings.pooled or settings.cosine:
        if targets.pooled is None:
            raise _without_states("pooled and distill.cosine")
        widths["pooled"] = (activations.pooled_width, targets.pooled.shape[1])
    if settings.hidden:
        theirs = _aligned("hidden", targets, training_set.tokens).values.shape[1] // depth
        widths |= {f"hidden{place}": (student.config.hidden_size, theirs) for place in range(depth)}
    if settings.relations:
        theirs = _aligned("relations", targets, training_set.tokens).values.shape[1] // 3
        check_relation_heads(settings.relation_heads, activations.relation_width, theirs)
    for name, (ours, theirs) in widths.items():
        if ours != theirs or not training_set.same_origin:
            setattr(student, _attribute(name), nn.Linear(ours, theirs))
    return activations


def check_relation_heads(heads: int, ours: int, theirs: int) -> None:
    """Refuse a number of relation heads that does not divide both widths.

    Raises:
        DistillError: with the widths of student and teacher.
    """
    for width in (ours, theirs):
        if width % heads:
            raise DistillError(
                f"distill.relation_heads = {heads} does not divide a width of {width}; set it to "
                f"one that divides {ours} and {theirs}"
            )


def project(student: nn.Module, state: str, tensor: Tensor) -> Tensor:
    """A state of the student in the teacher's space; where it is there already, as it is."""
    linear = getattr(student, _attribute(state), None)
    return tensor.float() if linear is None else linear(tensor.float()).float()


def remove_projections(student: nn.Module) -> None:
    """Leave the student as one would ship it."""
    for name, _ in list(student.named_children()):
        if name.startswith("distill_") and name.endswith("_projection"):
            delattr(student, name)


def _attribute(state: str) -> str:
    return f"distill_{state}_projection"


def _without_states(names: str) -> DistillError:
    return DistillError(
        f"distill.{names} needs the teacher's states, and teacher.logits holds logits only; "
        "leave out one of the two"
    )


def _aligned(name: str, targets: SoftTargets, tokens: Tokens) -> Ragged:
    """The teacher's states, token by token those of the student's texts."""
    stored: Ragged | None = getattr(targets, name)
    if stored is None:
        raise _without_states(name)
    if not np.array_equal(stored.lengths, tokens.lengths):
        row = int(np.flatnonzero(stored.lengths != tokens.lengths)[0])
        raise DistillError(
            f"distill.{name} compares token by token, but text {row} has {stored.lengths[row]} "
            f"tokens for the teacher and {tokens.lengths[row]} for the student: their tokenizers "
            f"differ. Set distill.{name} = 0; losses on logits and pooled embeddings do not mind."
        )
    return stored
