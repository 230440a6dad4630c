"""Distillation losses: pure functions of tensors.

Each is a mean over the batch of what it makes of one example, so that shares of a batch, weighted
by their size, add up to the whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from optimize.training.cross_entropy import hard_label_loss

# Added to the logarithm's argument; below float32's resolution near 1.
TINY = 1e-12


def soft_target_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T²·KL(teacher ‖ student) at temperature T, averaged over the batch.

    The factor T² keeps the gradient's scale when T changes (Hinton, Vinyals and Dean 2015,
    "Distilling the Knowledge in a Neural Network", section 2).

    Args:
        student_logits: shape (batch, labels).
        teacher_logits: shape (batch, labels).
        temperature: above 0.

    Returns:
        A scalar in nats.
    """
    _check_shapes(student_logits, teacher_logits)
    _check_temperature(temperature)
    divergence = functional.kl_div(
        functional.log_softmax(student_logits / temperature, dim=-1),
        functional.log_softmax(teacher_logits / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2


def binary_soft_target_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float
) -> Tensor:
    """T²·KL(teacher ‖ student) of all labels' sigmoids, averaged over the batch.

    What :func:`soft_target_loss` is for one label a text, where a text may have several: each label
    is a choice of two (Yang et al. 2023, "Multi-Label Knowledge Distillation", section 3.1).

    Args:
        student_logits: shape (batch, labels).
        teacher_logits: the same shape.
        temperature: above 0.

    Returns:
        A scalar in nats.
    """
    _check_shapes(student_logits, teacher_logits)
    _check_temperature(temperature)
    ours, theirs = student_logits / temperature, teacher_logits / temperature
    yes, no = functional.logsigmoid(theirs), functional.logsigmoid(-theirs)
    divergence = yes.exp() * (yes - functional.logsigmoid(ours))
    divergence = divergence + no.exp() * (no - functional.logsigmoid(-ours))
    return divergence.sum(dim=-1).mean() * temperature**2


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    temperature: float,
    alpha: float,
) -> Tensor:
    """alpha·CE + (1 − alpha)·T²·KL (Hinton et al. 2015).

    Args:
        student_logits: shape (batch, labels).
        teacher_logits: shape (batch, labels).
        labels: class ids, shape (batch,); :data:`UNLABELLED` where only the teacher speaks.
        temperature: above 0; softens both distributions of the KL term.
        alpha: weight of the labels, in [0, 1].

    Returns:
        A scalar: both terms are means over the whole batch, so an unlabelled example adds
        nothing to the first.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is {alpha}; it must be in [0, 1]")
    soft = soft_target_loss(student_logits, teacher_logits, temperature)
    return alpha * hard_label_loss(student_logits, labels) + (1 - alpha) * soft


def decoupled_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, non_target: float
) -> Tensor:
    """T²·(KL of the target class + non_target·KL among the others), DKD.

    Zhao et al. 2022, "Decoupled Knowledge Distillation", equation 7 with alpha = 1 and
    beta = ``non_target``: KL weighs the classes that are not the target by how unsure the teacher
    is, which is little where it is nearly certain; here their weight is fixed. The target is the
    class that the teacher gives, so that unlabelled texts have one too.

    Args:
        student_logits: shape (batch, labels), two labels at least.
        teacher_logits: the same shape.
        temperature: above 0.
        non_target: weight of the classes that are not the target, at least 0.

    Returns:
        A scalar in nats.
    """
    _check_shapes(student_logits, teacher_logits)
    _check_temperature(temperature)
    target = teacher_logits.argmax(dim=-1, keepdim=True)
    ours, theirs = student_logits / temperature, teacher_logits / temperature

    def binary(logits: Tensor) -> Tensor:
        share = logits.softmax(dim=-1).gather(-1, target)
        return torch.cat([share, 1 - share], dim=-1).clamp_min(TINY).log()

    def others(logits: Tensor) -> Tensor:
        kept = torch.ones_like(logits, dtype=torch.bool).scatter_(-1, target, False)
        return logits[kept].view(len(logits), -1).log_softmax(dim=-1)

    def divergence(log_ours: Tensor, log_theirs: Tensor) -> Tensor:
        return functional.kl_div(log_ours, log_theirs, reduction="batchmean", log_target=True)

    of_target = divergence(binary(ours), binary(theirs))
    of_others = divergence(others(ours), others(theirs))
    return (of_target + non_target * of_others) * temperature**2


def logit_loss(student_logits: Tensor, teacher_logits: Tensor, *, centred: bool = True) -> Tensor:
    """Mean squared error of logits, averaged over labels and batch.

    Ba and Caruana 2014, "Do Deep Nets Really Need to be Deep?", equation 2. Centred where a softmax
    reads them, since a constant added to all logits of an example changes no answer there.

    Args:
        student_logits: shape (batch, labels).
        teacher_logits: the same shape.
        centred: whether the mean over an example's logits is taken off; not where each is read
            alone, as where a text may have several labels.

    Returns:
        A scalar, in squared logits.
    """
    _check_shapes(student_logits, teacher_logits)
    if not centred:
        return functional.mse_loss(student_logits, teacher_logits)
    ours = student_logits - student_logits.mean(dim=-1, keepdim=True)
    theirs = teacher_logits - teacher_logits.mean(dim=-1, keepdim=True)
    return functional.mse_loss(ours, theirs)


def pooled_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of pooled embeddings over the teacher's squared norm, batch mean.

    The hint of Romero et al. 2015 ("FitNets", equation 3) on the vectors that the heads read,
    made free of their scale. With equal heads, equal vectors give equal logits.

    Args:
        student: shape (batch, width), after a projection where the widths differ.
        teacher: shape (batch, width).

    Returns:
        A scalar without unit: 0 for equal vectors, 1 for a student that answers zeros.
    """
    _check_shapes(student, teacher)
    distance = (student - teacher).square().sum(dim=-1)
    return (distance / teacher.square().sum(dim=-1).clamp_min(1e-6)).mean()


def cosine_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """1 − cosine of pooled embeddings, batch mean (Sanh et al. 2019, "DistilBERT", section 3).

    Args:
        student: shape (batch, width), after a projection where the widths differ.
        teacher: shape (batch, width).

    Returns:
        A scalar in [0, 2].
    """
    _check_shapes(student, teacher)
    return (1 - functional.cosine_similarity(student, teacher, dim=-1)).mean()


def hidden_loss(student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Squared distance of hidden states over the teacher's squared norm, layer by layer.

    Jiao et al. 2020, "TinyBERT", equation 8, made free of scale as in :func:`pooled_loss`.

    Args:
        student: one tensor a layer, shape (batch, tokens, width), projected to the teacher's width.
        teacher: the layers that those stand for, likewise.
        mask: 1 at a token, 0 at padding, shape (batch, tokens).

    Returns:
        A scalar without unit: the mean over layers, and over the tokens of each example.
    """
    if len(student) != len(teacher) or not student:
        raise ValueError(
            f"{len(student)} layers of the student stand for {len(teacher)} of the teacher; both "
            "need the same number, at least one"
        )
    total = student[0].new_zeros(())
    for ours, theirs in zip(student, teacher, strict=True):
        _check_shapes(ours, theirs)
        distance = (ours - theirs).square().sum(dim=-1)
        scale = theirs.square().sum(dim=-1).clamp_min(1e-6)
        total = total + _token_mean(distance / scale, mask)
    return total / len(student)


def relation_loss(
    student: Sequence[Tensor], teacher: Sequence[Tensor], mask: Tensor, heads: int
) -> Tensor:
    """KL of the self-relations of queries, keys and values, teacher to student.

    Wang et al. 2021, "MiniLMv2", equations 5 to 7: softmax(X·Xᵀ / √d) over the tokens, for X the
    queries, the keys and the values cut into ``heads`` relation heads of width d. No width or head
    count of the two models has to be equal.

    Args:
        student: queries, keys and values, each of shape (batch, tokens, width).
        teacher: the same of the teacher, of its own width.
        mask: 1 at a token, 0 at padding, shape (batch, tokens).
        heads: relation heads; divides both widths.

    Returns:
        A scalar in nats: the mean over kinds, heads, and the tokens of each example.
    """
    if len(student) != len(teacher):
        raise ValueError(f"{len(student)} kinds of the student, {len(teacher)} of the teacher")
    total = student[0].new_zeros(())
    for ours, theirs in zip(student, teacher, strict=True):
        log_ours, log_theirs = (_log_relation(x, mask, heads) for x in (ours, theirs))
        each = (log_theirs.exp() * (log_theirs - log_ours)).sum(dim=-1)  # (batch, heads, tokens)
        total = total + _token_mean(each.mean(dim=1), mask)
    return total / len(student)


def _log_relation(x: Tensor, mask: Tensor, heads: int) -> Tensor:
    batch, tokens, width = x.shape
    if width % heads:
        raise ValueError(
            f"{heads} relation heads do not divide a width of {width}; set distill.relation_heads"
        )
    cut = x.view(batch, tokens, heads, width // heads).transpose(1, 2)
    scores = cut @ cut.transpose(-1, -2) / (width // heads) ** 0.5
    # Finite, so that a padded column takes part in the difference of two equal values, not of
    # two infinities.
    scores = scores.masked_fill(mask[:, None, None, :] == 0, -1e4)
    return scores.log_softmax(dim=-1)  # type: ignore[no-any-return]


def _token_mean(each: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens of each example, then over examples."""
    kept = mask.to(each.dtype)
    means: Tensor = (each * kept).sum(dim=-1) / kept.sum(dim=-1)
    return means.mean()


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0")


def _check_shapes(student: Tensor, teacher: Tensor) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"the student's have shape {tuple(student.shape)}, the teacher's "
            f"{tuple(teacher.shape)}; both need the same examples and width"
        )
