"""What an INT8 model would do on a CPU without VNNI, as far as that can be told on any.

There, two neighbouring products of an unsigned activation and a signed weight are added in 16 bits
(`vpmaddubsw`), and what passes 32,767 is cut off. A bundle's session asks such a CPU for kernels
that cannot; those can be asked for here too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from optimize.bundle.classifier import Classifier
from optimize.bundle.session import open_session

LARGEST_ACTIVATION, LARGEST_SUM = 255, 32_767
# Where the operators that multiply in integers have their weights.
WEIGHTS_AT = {"MatMulInteger": 1, "DynamicQuantizeMatMul": 1, "QAttention": 1, "QLinearMatMul": 3}


class Guarded(Classifier):
    """The same bundle under the kernels that a CPU without VNNI is given."""

    def _opened(self) -> Any:
        super()._opened()
        model = self._path.read_bytes()
        return open_session(model, self._threads, self._folder, self.facts, guarded=True)


def overflowing_pairs(model: Path) -> float:
    """Share of neighbouring weights whose products could pass 16 bits, 0 to 1.

    Args:
        model: an INT8 ONNX file. Without signed integer weights the share is 0.
    """
    graph = onnx.load(model).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    pairs = over = 0
    for node in graph.node:
        place = WEIGHTS_AT.get(node.op_type)
        if place is None or node.input[place] not in stored:
            continue
        weights = numpy_helper.to_array(stored[node.input[place]])
        if weights.dtype == np.int8:
            sums = _extremes(weights)
            pairs += sums.size
            over += int((LARGEST_ACTIVATION * sums > LARGEST_SUM).sum())
    return over / pairs if pairs else 0.0


def _extremes(weights: NDArray[np.int8]) -> NDArray[np.int32]:
    """The larger of what two neighbours of a column can add up to, above 0 or below."""
    even = weights[: len(weights) // 2 * 2].astype(np.int32)
    first, second = even[0::2], even[1::2]
    above = np.maximum(first, 0) + np.maximum(second, 0)
    below = np.maximum(-first, 0) + np.maximum(-second, 0)
    sums: NDArray[np.int32] = np.maximum(above, below)
    return sums
