"""Cross-entropy with labels, where some texts are unlabelled."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from optimize.data.splits import UNLABELLED


def hard_label_loss(student_logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with the labels, averaged over the whole batch.

    Where a text may have several labels, the sum of each label's: the negative log-likelihood of
    all labels of a text, each taken for itself.

    Args:
        student_logits: shape (batch, labels).
        labels: class ids, shape (batch,); or 1 for each label that a text has and 0 for the
            others, shape (batch, labels). :data:`UNLABELLED` where nobody knows, which adds 0.

    Returns:
        A scalar in nats.
    """
    if labels.ndim == 2:
        known = labels != UNLABELLED
        losses = functional.binary_cross_entropy_with_logits(
            student_logits, labels.clamp_min(0).to(student_logits.dtype), reduction="none"
        )
        return (losses * known).sum() / len(labels)
    total = functional.cross_entropy(
        student_logits, labels, ignore_index=UNLABELLED, reduction="sum"
    )
    return total / len(labels)
