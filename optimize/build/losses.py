"""Distillation losses: pure functions of tensors."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

# Label of an example that has none; torch's own default of `ignore_index`.
UNLABELLED = -100


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
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0")
    divergence = functional.kl_div(
        functional.log_softmax(student_logits / temperature, dim=-1),
        functional.log_softmax(teacher_logits / temperature, dim=-1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2


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
    hard = functional.cross_entropy(
        student_logits, labels, ignore_index=UNLABELLED, reduction="sum"
    )
    return alpha * hard / len(labels) + (1 - alpha) * soft


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


def _check_shapes(student_logits: Tensor, teacher_logits: Tensor) -> None:
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"the student's have shape {tuple(student_logits.shape)}, the teacher's "
            f"{tuple(teacher_logits.shape)}; both need the same examples and width"
        )
