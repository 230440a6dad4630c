"""What a node of a model costs in INT8: the quantizer measures it, a report's page shows it."""

from __future__ import annotations

from typing import NamedTuple


class NodeCost(NamedTuple):
    """One node in INT8, all others in fp32.

    Attributes:
        name: as ``quantize.exclude`` takes it.
        operator: its type.
        divergence: mean KL divergence of the answers from the fp32 model's, in nats.
        changed: texts that are answered otherwise.
        saved_bytes: that the model is smaller by.
    """

    name: str
    operator: str
    divergence: float
    changed: int
    saved_bytes: int
