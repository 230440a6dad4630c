"""Cross-entropy with labels, where some texts have none."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from optimize.data.splits import UNLABELLED


def hard_label_loss(student_logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with the labels, averaged over the whole batch.

    Args:
        student_logits: shape (batch, labels).
        labels: class ids, shape (batch,); :data:`UNLABELLED` where there is none, which adds 0.

    Returns:
        A scalar in nats.
    """
    total = functional.cross_entropy(
        student_logits, labels, ignore_index=UNLABELLED, reduction="sum"
    )
    return total / len(labels)
