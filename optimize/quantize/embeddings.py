"""Token embeddings in four bits: a codebook of pairs, on operators that every onnxruntime has.

Two neighbouring values of a row are one byte, an entry of a codebook of 256 pairs, which is fitted
to the table (product quantization: Jégou, Douze and Schmid 2011; of embeddings: Joulin et al. 2016,
"FastText.zip"). Each row has a scale of its own, so that one with large values does not make
the others coarse. ONNX Runtime's own `GatherBlockQuantized` begins with 1.20; this is two gathers
and a product, and loads in all that are judged.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

PAIRS = 256
# Pairs that the codebook is fitted to; more of them change it little.
FITTED = 100_000
ROUNDS = 20
PREFIX = "four_bits"


def with_four_bit_embeddings(model: onnx.ModelProto, exclude: Sequence[str] = ()) -> list[str]:
    """Replace each table that the tokens' ids look up by codes of four bits a value, in place.

    Args:
        model: an fp32 model, fused or not.
        exclude: names of nodes that stay as they are.

    Returns:
        Names of the new nodes; a quantizer is to leave them alone.

    Raises:
        ValueError: no node looks up a table of tokens, or its width is odd.
    """
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    found = [
        node for node in graph.node if _looks_up_tokens(node, stored) and node.name not in exclude
    ]
    if not found:
        raise ValueError(
            'quantize.embeddings = "int4": no node of this model looks up a table by the ids of '
            'its tokens, but for those in quantize.exclude; set quantize.embeddings = "int8"'
        )
    made: list[str] = []
    for place, node in enumerate(found):
        table = stored[node.input[0]]
        tensors, nodes = _coded(f"{PREFIX}_{place}", node, numpy_helper.to_array(table))
        at = list(graph.node).index(node)
        graph.node.remove(node)
        for offset, each in enumerate(nodes):
            graph.node.insert(at + offset, each)
        graph.initializer.extend(tensors)
        if not any(table.name in other.input for other in graph.node):
            graph.initializer.remove(table)
        made += [each.name for each in nodes]
    return made


def _looks_up_tokens(node: Any, stored: dict[str, Any]) -> bool:
    if node.op_type != "Gather" or node.input[0] not in stored or node.input[1] != "input_ids":
        return False
    table = stored[node.input[0]]
    # A single value a token, as its weight in a mean, is no vector to be coded.
    is_table = len(table.dims) == 2 and table.dims[1] > 1
    return bool(is_table and table.data_type == onnx.TensorProto.FLOAT)


def _coded(prefix: str, node: Any, table: NDArray[np.float32]) -> tuple[list[Any], list[Any]]:
    """Tensors and nodes that give what the table gave."""
    codes, codebook, scales = coded(table)
    arrays: dict[str, NDArray[Any]] = {
        "codes": codes,
        "codebook": codebook,
        "scales": scales,
        "shape": np.array([0, 0, table.shape[1]], dtype=np.int64),
    }
    tensors = [numpy_helper.from_array(array, f"{prefix}.{n}") for n, array in arrays.items()]
    ids, out = node.input[1], node.output[0]

    def step(kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
        name = f"{prefix}/{output.removeprefix(f'{prefix}.')}"
        return helper.make_node(kind, inputs, [output], name=name, **attributes)

    nodes = [
        step("Gather", [f"{prefix}.codes", ids], f"{prefix}.bytes"),
        step("Cast", [f"{prefix}.bytes"], f"{prefix}.places", to=onnx.TensorProto.INT32),
        step("Gather", [f"{prefix}.codebook", f"{prefix}.places"], f"{prefix}.pairs"),
        step("Reshape", [f"{prefix}.pairs", f"{prefix}.shape"], f"{prefix}.rows"),
        step("Gather", [f"{prefix}.scales", ids], f"{prefix}.scale"),
        helper.make_node(
            "Mul", [f"{prefix}.rows", f"{prefix}.scale"], [out], name=f"{prefix}/table"
        ),
    ]
    return tensors, nodes


def coded(
    table: NDArray[np.float32],
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Codes, codebook and scales of a table.

    Args:
        table: shape (rows, width), the width even.

    Returns:
        Codes of shape (rows, width / 2), a codebook of shape (256, 2), scales of shape (rows, 1);
        ``codebook[codes].reshape(table.shape) * scales`` is near the table.

    Raises:
        ValueError: the width is odd.
    """
    from scipy.cluster.vq import kmeans2, vq

    rows, width = table.shape
    if width % 2:
        raise ValueError(
            f'quantize.embeddings = "int4" needs vectors of even width, not {width}; set '
            'quantize.embeddings = "int8"'
        )
    scales = np.sqrt((table**2).mean(axis=1, keepdims=True)).astype(np.float32)
    scales[scales == 0] = 1.0
    pairs = (table / scales).reshape(-1, 2)
    generator = np.random.default_rng(0)
    some = pairs[generator.choice(len(pairs), min(FITTED, len(pairs)), replace=False)]
    with warnings.catch_warnings():
        # An entry that nothing is near to stays where it was.
        warnings.filterwarnings("ignore", "One of the clusters is empty")
        codebook, _ = kmeans2(some, _grid(some), iter=ROUNDS, minit="matrix")
    codebook = codebook.astype(np.float32)
    codes = vq(pairs, codebook)[0].astype(np.uint8).reshape(rows, width // 2)
    return codes, codebook, _fitted(table, codebook[codes].reshape(table.shape), scales)


def _grid(pairs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Where the codebook begins: 16 quantiles by 16, as if both values were coded apart."""
    levels = np.quantile(pairs, (np.arange(16) + 0.5) / 16).astype(np.float32)
    return np.stack(np.meshgrid(levels, levels), axis=-1).reshape(-1, 2)


def _fitted(
    table: NDArray[np.float32], rows: NDArray[np.float32], scales: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The scale of each row that comes nearest to it, by least squares."""
    norm = (rows**2).sum(axis=1, keepdims=True)
    best = (table * rows).sum(axis=1, keepdims=True) / np.where(norm > 0, norm, 1)
    return np.where(norm > 0, best, scales).astype(np.float32)
