"""What an INT8 model would do on a CPU without VNNI, as far as that can be told on any.

There, two neighbouring products of an unsigned activation and a signed weight are added in 16 bits
(`vpmaddubsw`), and what passes 32,767 is cut off. A bundle's session asks such a CPU for kernels
that cannot; those can be asked for here too.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from optimize.bundle.classifier import Classifier

LARGEST_ACTIVATION, LARGEST_SUM = 255, 32_767


class Guarded(Classifier):
    """The same bundle under the kernels that a CPU without VNNI is given."""

    _guarded = True


def overflowing_pairs(matrices: Iterable[NDArray[np.int8]]) -> float:
    """Share of neighbouring weights whose products could pass 16 bits, 0 to 1.

    Args:
        matrices: signed weights, shape (read, said) each; without any the share is 0.
    """
    sums = [_extremes(weights).ravel() for weights in matrices]
    over = LARGEST_ACTIVATION * np.concatenate(sums or [np.zeros(1, np.int32)]) > LARGEST_SUM
    return float(over.mean())


def _extremes(weights: NDArray[np.int8]) -> NDArray[np.int32]:
    """The larger of what two neighbours of a column can add up to, above 0 or below."""
    even = weights[: len(weights) // 2 * 2].astype(np.int32)
    first, second = even[0::2], even[1::2]
    above = np.maximum(first, 0) + np.maximum(second, 0)
    below = np.maximum(-first, 0) + np.maximum(-second, 0)
    sums: NDArray[np.int32] = np.maximum(above, below)
    return sums
