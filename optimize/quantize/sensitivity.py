"""What each node of a model costs in INT8: one node after the other is quantized alone.

By how much the answers move then says which nodes are better left in fp32
(``quantize.exclude``). Measured on validation texts, one by one, as INT8 is served.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy.special import log_expit, log_softmax

from optimize.bundle.encoder import TextEncoder
from optimize.bundle.folder import MODEL_NAME, read_manifest
from optimize.bundle.node_cost import NodeCost
from optimize.bundle.session import checked_facts, open_session
from optimize.bundle.texts import evenly
from optimize.data.splits import Split
from optimize.quantize.int8 import QUANTIZED, four_bit_ort_dynamic, ort_dynamic, quantize
from optimize.settings.quantization import EmbeddingBits
from optimize.training.evaluation import score_of
from optimize.workspace import Progress, Tell

TEXTS = 256
Logits = NDArray[np.float32]


def sensitivity(model: Path, texts: Sequence[str], tell: Tell) -> list[NodeCost]:
    """The cost of every node that the INT8 recipe would quantize, the dearest first.

    Args:
        model: folder of the fp32 ONNX model.
        texts: :data:`TEXTS` of them are asked.
        tell: told the progress.
    """
    asked = _Asked(model, evenly(texts, TEXTS))
    several = read_manifest(model).multi_label
    source = model / MODEL_NAME
    plain, size = asked.logits(source.read_bytes()), source.stat().st_size
    nodes = quantizable(source)
    found = []
    for place, (name, operator) in enumerate(nodes):
        tell(Progress(f"sensitivity: {name}", place / len(nodes)))
        with TemporaryDirectory() as work:
            target = Path(work, MODEL_NAME)
            quantize(partial(ort_dynamic, nodes=[name]), source, target, integer=False)
            content = target.read_bytes()
        logits = asked.logits(content)
        moved = divergence(plain, logits, several=several)
        changed = answers_changed(plain, logits, several=several)
        found.append(NodeCost(name, operator, moved, changed, size - len(content)))
    return sorted(found, key=lambda each: -each.divergence)


def quantizable(model: Path) -> list[tuple[str, str]]:
    """Names and types of the nodes that the INT8 recipe quantizes."""
    graph = onnx.load(str(model), load_external_data=False).graph
    stored = {tensor.name for tensor in graph.initializer}
    return [
        (node.name, node.op_type)
        for node in graph.node
        if node.op_type in (*QUANTIZED, "Gemm") and stored.intersection(node.input[:2])
    ]


def answers_changed(plain: Logits, other: Logits, *, several: bool = False) -> int:
    """Texts whose most probable label differs; of several labels, any at a probability of 0.5.

    Args:
        plain: shape (texts, labels).
        other: the same shape.
        several: a text may have several labels.
    """
    if several:
        return int(((plain > 0) != (other > 0)).any(axis=1).sum())
    return int((plain.argmax(axis=1) != other.argmax(axis=1)).sum())


def divergence(plain: Logits, other: Logits, *, several: bool = False) -> float:
    """Mean KL divergence of softmax(other) from softmax(plain), in nats.

    Args:
        plain: shape (texts, labels).
        other: the same shape.
        several: a text may have several labels: the sum of each label's sigmoid's instead.
    """
    if several:
        yes, no = (log_expit(sign * plain.astype(np.float64)) for sign in (1, -1))
        ours, against = (log_expit(sign * other.astype(np.float64)) for sign in (1, -1))
        each = np.exp(yes) * (yes - ours) + np.exp(no) * (no - against)
        return float(each.sum(axis=1).mean())
    ours, theirs = (log_softmax(each.astype(np.float64), axis=1) for each in (other, plain))
    return float((np.exp(theirs) * (theirs - ours)).sum(axis=1).mean())


def excluded_until(
    model: Path,
    costs: Sequence[NodeCost],
    split: Split,
    most_pp: float,
    tell: Tell,
    embeddings: EmbeddingBits = "int8",
) -> list[str]:
    """Nodes to leave in fp32, the dearest first, until INT8 loses at most so much.

    Args:
        model: folder of the fp32 ONNX model.
        costs: see :func:`sensitivity`.
        split: validation texts.
        most_pp: accuracy, or micro F1, that INT8 may lose against fp32, in percentage points.
        tell: told each step.
        embeddings: as ``quantize.embeddings``; a table of four bits is never left in fp32.

    Returns:
        Their names; empty where INT8 loses no more as it is, all where even that is not enough.
    """
    asked = _Asked(model, split.texts)
    source = model / MODEL_NAME
    right = _score(asked.logits(source.read_bytes()), split)
    excluded: list[str] = []
    made = four_bit_ort_dynamic if embeddings == "int4" else ort_dynamic
    costs = [cost for cost in costs if embeddings == "int8" or cost.operator != "Gather"]
    for cost in [*costs, None]:
        with TemporaryDirectory() as work:
            target = Path(work, MODEL_NAME)
            quantize(partial(made, exclude=tuple(excluded)), source, target, integer=False)
            drop = 100 * (right - _score(asked.logits(target.read_bytes()), split))
            size = target.stat().st_size
        tell(f"sensitivity: {len(excluded)} nodes in fp32, {size / 1e6:.1f} MB: {drop:+.2f} pp")
        if drop <= most_pp or cost is None:
            break
        excluded.append(cost.name)
    return excluded


def _score(logits: Logits, split: Split) -> float:
    (score,) = score_of(logits, split.labels).values()
    return score


class _Asked:
    """Some texts, tokenised once, for one model in many forms."""

    def __init__(self, folder: Path, texts: Sequence[str]) -> None:
        self._folder, self._count = folder, len(texts)
        encoder = TextEncoder(folder, read_manifest(folder))
        self._batches = list(encoder.batches(list(texts), 1))

    def logits(self, content: bytes) -> Logits:
        """Shape (texts, labels)."""
        session: Any = open_session(content, 0, self._folder, checked_facts(content, self._folder))
        wanted = {node.name for node in session.get_inputs()}
        rows: dict[int, Logits] = {}
        for (row,), batch in self._batches:
            feed = {name: array for name, array in batch.items() if name in wanted}
            rows[row] = session.run(None, feed)[0][0]
        return np.stack([rows[row] for row in range(self._count)])


def table_of(costs: Sequence[NodeCost]) -> str:
    """One row a node, as Markdown."""
    rows = [
        "| node | operator | divergence, nats | answers changed | saves |",
        "| --- | --- | --- | --- | --- |",
    ]
    rows += [
        f"| `{each.name}` | {each.operator} | {each.divergence:.2e} | {each.changed} | "
        f"{each.saved_bytes / 1e6:.2f} MB |"
        for each in costs
    ]
    return "\n".join(rows)


def plot(costs: Sequence[NodeCost], target: Path) -> None:
    """Bars of the divergence, the dearest node on top."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    shown = list(costs)[::-1]
    with mpl.rc_context({"svg.hashsalt": "optimize", "font.size": 9}):
        size = (7.5, 1 + 0.22 * len(shown))
        figure, axes = pyplot.subplots(figsize=size, layout="constrained")
        axes.barh([each.name for each in shown], [max(each.divergence, 0) for each in shown])
        axes.set(xlabel="KL divergence from fp32 where this node alone is INT8, nats")
        figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None)
        pyplot.close(figure)
