"""What a tokenizer of transformers is called with."""

from __future__ import annotations

from collections.abc import Sequence

from optimize.bundle.texts import parted


def tokenizer_inputs(texts: Sequence[str], *, pairs: bool) -> tuple[list[str], ...]:
    """The texts; or the first texts of all pairs, and the second ones.

    Args:
        texts: as a split has them.
        pairs: whether each is a pair.
    """
    if not pairs:
        return (list(texts),)
    halves = [parted(text) for text in texts]
    return [first for first, _ in halves], [second for _, second in halves]
